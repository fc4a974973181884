//! The plugin's program, kept as it is in our own image.
//!
//! Each look costs three `stat` calls as long as nothing has changed: the files are megabytes. Invariant: what counts as in
//! place was compared byte by byte, and its inode has not changed since.

use super::flags::Program as Settings;
use heddle_cni::LOOPBACK;
use heddle_cni::failure::Failure;
use heddle_cni::install::place::Put;
use heddle_cni::install::programs::{PROGRAM, put_programs};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What changes with everything that is done to a file: device, inode, size, and the time of the last change in seconds and
/// nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

/// The program and its place.
#[derive(Debug)]
pub(super) struct Program {
    settings: Settings,
    /// Source, program and its second name, when they were found to be as they should.
    settled: Option<[Option<Stamp>; 3]>,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// The files that were put in place.
    pub(super) files: Vec<(PathBuf, Put)>,
    /// They had been in place, and the image is the same.
    pub(super) repaired: bool,
}

impl Program {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, settled: None }
    }

    /// Whether there is a program that a runtime can start, be it an older one.
    pub(super) fn is_there(&self) -> bool {
        self.settings.folder.join(PROGRAM).is_file()
    }

    /// Puts in place what is not.
    pub(super) fn put(&mut self) -> Result<Done, Failure> {
        let Settings { source, folder } = &self.settings;
        // Before the look: whatever happens meanwhile has another stamp.
        let now = [source.clone(), folder.join(PROGRAM), folder.join(LOOPBACK)].map(|path| stamp(&path));
        if self.settled == Some(now) {
            return Ok(Done::default());
        }
        let read = |e: std::io::Error| Failure {
            code: 5,
            msg: format!("read {}", source.display()),
            details: e.to_string(),
        };
        let bytes = fs::read(source).map_err(read)?;
        let put = put_programs(folder, &bytes)?;
        let files = [Some(put.program), put.loopback.1.map(|done| (put.loopback.0, done))];
        let files: Vec<_> = files.into_iter().flatten().filter(|(_, put)| *put != Put::Unchanged).collect();
        let before = self.settled.take();
        self.settled = files.is_empty().then_some(now);
        let repaired = !files.is_empty() && before.is_some_and(|before| before[0] == now[0]);
        Ok(Done { files, repaired })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_in_place_once_and_again_when_it_or_its_source_changes() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("source"), "one").unwrap();
        let mut program = Program::new(Settings { source: at("source"), folder: at("bin") });
        assert!(!program.is_there());
        let names = |done: &Done| -> Vec<_> {
            done.files.iter().map(|(path, put)| (path.file_name().unwrap().to_owned(), *put)).collect()
        };
        let first = program.put().unwrap();
        assert_eq!(names(&first), [("heddle-cni".into(), Put::New), ("loopback".into(), Put::New)]);
        assert!(!first.repaired && program.is_there());
        assert_eq!(program.put().unwrap(), Done::default());
        assert!(program.settled.is_some(), "from now on it is not read");

        fs::write(at("bin/heddle-cni"), "other").unwrap();
        let again = program.put().unwrap();
        assert!(again.repaired && again.files.len() == 2, "{again:?}");
        assert_eq!(program.put().unwrap(), Done::default());
        fs::write(at("source"), "two").unwrap();
        let newer = program.put().unwrap();
        assert!(!newer.repaired, "a new version is no repair");
        assert_eq!(fs::read_to_string(at("bin/loopback")).unwrap(), "two");
    }

    #[test]
    fn without_a_source_the_old_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("bin")).unwrap();
        fs::write(at("bin/heddle-cni"), "old").unwrap();
        let mut program = Program::new(Settings { source: at("source"), folder: at("bin") });
        let failure = program.put().unwrap_err().to_line();
        assert!(failure.contains("source: No such file or directory"), "{failure}");
        assert!(program.is_there());
    }
}
