//! One watched file of any name, that may be put in place in any way: written, moved, or by the links of a mounted ConfigMap.
//!
//! Not a reader of it. Invariant: after every content that stays, [`WatchedFile::wait`] returns at least once.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::folder::{Folder, Scope};

/// A file cannot be watched.
#[derive(Debug, Error)]
#[error("watch {}", path.display())]
pub struct FileError {
    /// The file.
    path: PathBuf,
    /// What the kernel said.
    source: io::Error,
}

/// A file that is being watched.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    folder: Folder,
    known: BTreeSet<String>,
}

impl WatchedFile {
    /// Starts to watch. What happens to the file after this is seen.
    ///
    /// # Errors
    /// When its folder cannot be watched.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let error = |source| FileError { path: path.to_owned(), source };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| error(io::ErrorKind::InvalidFilename.into()))?.to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = Folder::watch(folder, Scope::File(name.clone())).map_err(error)?;
        Ok(Self { path: path.to_owned(), folder, known: BTreeSet::from([name]) })
    }

    /// Waits until the file may say something else. That it is gone is nothing that it says.
    ///
    /// # Errors
    /// When it cannot be watched any longer.
    pub fn wait(&mut self) -> Result<(), FileError> {
        loop {
            let round = self.folder.wait(&self.known);
            let round = round.map_err(|source| FileError { path: self.path.clone(), source })?;
            if !round.read.is_empty() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// What the file says each time that its watch returns.
    fn follow(path: &Path) -> Receiver<String> {
        let mut file = WatchedFile::open(path).unwrap();
        let (send, receive) = channel();
        let path = path.to_owned();
        std::thread::spawn(move || {
            while file.wait().is_ok() && send.send(fs::read_to_string(&path).unwrap()).is_ok() {}
        });
        receive
    }

    fn says(contents: &Receiver<String>, wanted: &str) {
        while contents.recv_timeout(Duration::from_secs(20)).expect("the file's last content is seen")
            != wanted
        {}
    }

    #[test]
    fn a_file_of_any_name_is_seen_written_moved_and_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.conf");
        fs::write(&path, "one").unwrap();
        let contents = follow(&path);
        fs::write(&path, "two").unwrap();
        says(&contents, "two");
        fs::write(folder.path().join("other.yaml"), "not ours").unwrap();
        fs::write(folder.path().join("new"), "three").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        says(&contents, "three");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "four").unwrap();
        says(&contents, "four");
    }

    /// kp:I5: what kube-proxy misses, a ConfigMap that is swapped below a link.
    #[test]
    fn a_mounted_config_map_that_is_swapped_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("config.conf"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/config.conf", at("config.conf")).unwrap();
        let contents = follow(&at("config.conf"));
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        says(&contents, "two");
    }
}
