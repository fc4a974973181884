//! The container image of `conf/Containerfile`, put together by `conf/image.sh` as `make image` does, from the programs that are built.
//!
//! Not what ships: the programs have this test's profile, without their symbols. Invariant: it is made where there is no network, so
//! nothing of it comes from elsewhere, and on a mount that nobody else sees, so nothing of it stays.

use crate::namespace::{self, Namespace};
use crate::process::{self, Invocation, program};
use crate::scratch::Scratch;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The programs that it is made from. heddle-node is in it under the name heddle-proxy, too.
pub const PROGRAMS: [&str; 2] = ["heddle-cni", "heddle-node"];

/// buildah wants folders that have a name: from the programs, with the script, to the archive.
const ASSEMBLE: &str = r#"set -e
mount -t tmpfs tmpfs /mnt; cp -r "$1" /mnt/programs
"$2" /mnt/programs /mnt/image.tar
cp /mnt/image.tar "$3""#;

/// Why there is no image, or it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not built, or could not be started.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// There is no namespace to make it in.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// There is no room for it.
    #[error("keep an image")]
    Io(#[from] io::Error),
    /// A program of the system did not do its part.
    #[error("{program}: {said}")]
    Refused {
        /// Which.
        program: String,
        /// What it said.
        said: String,
    },
    /// The archive is not what it should be.
    #[error("read {what} of the archive")]
    Archive {
        /// Which part.
        what: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// An image, in the form that `docker save` has.
#[derive(Debug)]
pub struct Image {
    desk: Namespace,
    scratch: Scratch,
}

impl Image {
    /// Makes it.
    ///
    /// # Errors
    /// When a program is not built, or buildah refuses.
    pub fn assemble() -> Result<Self, Error> {
        let image = Self { desk: Namespace::new("desk")?, scratch: Scratch::new()? };
        let programs = image.programs();
        fs::create_dir(&programs)?;
        for name in PROGRAMS {
            let (to, from) = (programs.join(name), program(name)?);
            image.run("strip", ["-o".as_ref(), to.as_os_str(), from.as_os_str()])?;
        }
        image.assemble_again("image.tar")?;
        image.unpack()?;
        Ok(image)
    }

    /// Makes it once more from the same programs, under another name beside the first, and gives its path.
    ///
    /// # Errors
    /// When buildah refuses.
    pub fn assemble_again(&self, name: &str) -> Result<PathBuf, Error> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/image.sh");
        let archive = self.path(name);
        let unshare = ["--mount", "--propagation", "private", "sh", "-c", ASSEMBLE, "assemble"];
        let paths = [self.programs(), script, archive.clone()];
        self.run("unshare", unshare.iter().map(Path::new).chain(paths.iter().map(PathBuf::as_path)))?;
        Ok(archive)
    }

    /// What it was made from.
    pub fn programs(&self) -> PathBuf {
        self.path("programs")
    }

    /// The archive.
    pub fn archive(&self) -> PathBuf {
        self.path("image.tar")
    }

    /// The archive's description of the image: its names, its configuration and its layers.
    ///
    /// # Errors
    /// When it has none.
    pub fn manifest(&self) -> Result<Value, Error> {
        self.read("manifest.json")
    }

    /// The image's configuration.
    ///
    /// # Errors
    /// When it has none.
    pub fn configuration(&self) -> Result<Value, Error> {
        self.read(self.manifest()?[0]["Config"].as_str().unwrap_or_default())
    }

    /// What a container of it has as its root.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Unpacks its layers, one over the other.
    fn unpack(&self) -> Result<(), Error> {
        let (parts, root) = (self.path("parts"), self.root());
        [&parts, &root].into_iter().try_for_each(fs::create_dir)?;
        let unpack = |from: &Path, to: &Path| {
            self.run("tar", ["-xpf".as_ref(), from.as_os_str(), "-C".as_ref(), to.as_os_str()])
        };
        unpack(&self.archive(), &parts)?;
        let manifest = self.manifest()?;
        let layers = manifest[0]["Layers"].as_array().cloned().unwrap_or_default();
        layers
            .iter()
            .filter_map(Value::as_str)
            .try_for_each(|layer| unpack(&parts.join(layer), &root).map(drop))
    }

    fn read(&self, what: &str) -> Result<Value, Error> {
        let archive = self.archive();
        let text = self.run("tar", ["-xOf".as_ref(), archive.as_os_str(), what.as_ref()])?;
        serde_json::from_str(&text).map_err(|source| Error::Archive { what: what.to_owned(), source })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs a program where there is no network, and gives what it prints.
    fn run<A: AsRef<OsStr>>(
        &self,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, Error> {
        let program = program.into();
        let output = Invocation::foreign(&program).args(arguments).run(&self.desk)?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(Error::Refused { program: program.display().to_string(), said: output.stderr })
        }
    }
}
