//! A folder of Kubernetes manifests as the source of objects, for a proxy without a cluster.
//!
//! Not a check of manifests: a file or object with a mistake is reported once and costs only itself, and its last good
//! state stays. Invariant: after each round the changes given so far add up to what the folder's readable files say.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::warn;

use super::documents::{self, Format, Parsed};
use super::folder::{self, Folder, Round};
use super::roster::{self, Roster, Update};
use super::scope::Scope;
use crate::convert::Names;
use crate::model::{Change, Kind};
use crate::problems::News;

/// Why a folder of manifests cannot be a source.
#[derive(Debug, Error)]
pub enum ManifestsError {
    /// It is not there, not a folder, or may not be read.
    #[error("cannot read the manifests folder {}: {source}", folder.display())]
    Open {
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It was readable, but its watch broke.
    #[error("cannot watch the manifests folder {}: {source}", folder.display())]
    Watch {
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Emits what a folder of manifests says, then every difference, for ever, and tells of what is wrong with files and
/// objects. Blocks: give it a thread of its own.
///
/// # Errors
/// When the folder cannot be read at the start, or not be watched any longer.
pub fn run_manifests(
    folder: &Path,
    scope: Scope<'_>,
    emit: impl Fn(Change) + Send + 'static,
    tell: impl Fn(News) + Send + 'static,
) -> Result<Infallible, ManifestsError> {
    follow_manifests(Manifests::open(folder, scope)?, emit, tell)
}

/// Emits what a folder that is being watched says, then every difference, for ever. Blocks.
///
/// # Errors
/// When the folder cannot be listed at the start, or not be watched any longer.
pub fn follow_manifests(
    mut manifests: Manifests,
    emit: impl Fn(Change) + Send + 'static,
    tell: impl Fn(News) + Send + 'static,
) -> Result<Infallible, ManifestsError> {
    manifests.first()?.into_iter().for_each(&emit);
    loop {
        manifests.take_news().into_iter().for_each(&tell);
        manifests.next()?.into_iter().for_each(&emit);
    }
}

/// A folder of manifests that is being watched.
#[derive(Debug)]
pub struct Manifests {
    folder: Folder,
    path: PathBuf,
    /// The only node that counts; without one, all do.
    node: Option<String>,
    /// Its pods count, too.
    pods: bool,
    roster: Roster,
    names: Names,
    news: Vec<News>,
}

impl Manifests {
    /// Starts to watch a folder, without reading its files.
    ///
    /// # Errors
    /// When it is not a folder that can be read.
    pub fn open<'a>(path: &Path, scope: impl Into<Scope<'a>>) -> Result<Self, ManifestsError> {
        let Scope { node, pods } = scope.into();
        Ok(Self { node: node.map(str::to_owned), pods, ..Self::open_with_all_nodes(path)? })
    }

    /// The same where every Node object counts.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_all_nodes(path: &Path) -> Result<Self, ManifestsError> {
        let open_error = |source| ManifestsError::Open { folder: path.to_owned(), source };
        let folder = Folder::watch(path, folder::Scope::Manifests).map_err(open_error)?;
        folder.files().map_err(open_error)?;
        let path = path.to_owned();
        Ok(Self {
            folder,
            path,
            node: None,
            pods: false,
            roster: Roster::default(),
            names: Names::default(),
            news: Vec::new(),
        })
    }

    /// Reads every file. The changes end with one [`Change::Complete`] for each kind.
    ///
    /// # Errors
    /// When the folder cannot be listed; a file that cannot be read is only reported.
    pub fn first(&mut self) -> Result<Vec<Change>, ManifestsError> {
        let read = self.folder.files();
        let read = read.map_err(|source| ManifestsError::Open { folder: self.path.clone(), source })?;
        let mut changes = self.round(Round { read, gone: BTreeSet::new() });
        changes.extend([Kind::Service, Kind::Slice, Kind::Node, Kind::ServiceCidr].map(Change::Complete));
        changes.extend(self.pods.then_some(Change::Complete(Kind::Pod)));
        self.roster.pack();
        Ok(changes)
    }

    /// Waits for a change in the folder and reads what it touched. A folder that goes away is waited for, with all
    /// objects kept.
    ///
    /// # Errors
    /// When the folder can no longer be watched.
    #[expect(clippy::should_implement_trait, reason = "it fails, and it never ends: not an iterator")]
    pub fn next(&mut self) -> Result<Vec<Change>, ManifestsError> {
        let known = self.roster.files().map(ToString::to_string).collect();
        let round = self.folder.wait(&known);
        let round = round.map_err(|source| ManifestsError::Watch { folder: self.path.clone(), source })?;
        Ok(self.round(round))
    }

    /// What is wrong, or in order again, since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    fn note(&mut self, update: Update) -> Vec<Change> {
        for (file, text) in update.remarks {
            warn!(%file, "{text}");
        }
        self.news.extend(update.news);
        update.changes
    }

    fn round(&mut self, round: Round) -> Vec<Change> {
        let mut changes = Vec::new();
        for name in round.gone {
            let update = self.roster.remove(&name);
            changes.extend(self.note(update));
        }
        for name in round.read {
            let Some(parsed) = self.read(&name) else { continue };
            let update = self.roster.replace(&name, parsed);
            changes.extend(self.note(update));
        }
        roster::settle(changes)
    }

    fn read(&mut self, name: &str) -> Option<Parsed> {
        let format = Format::of(name)?;
        let scope = Scope { node: self.node.as_deref(), pods: self.pods };
        match fs::read(self.folder.file(name)) {
            Ok(bytes) => Some(documents::parse(format, &bytes, scope, &mut self.names)),
            // Gone since the event: its own event follows.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Parsed::unreadable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
