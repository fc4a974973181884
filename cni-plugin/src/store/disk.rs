//! The door to the bytes of a lease table.
//!
//! It knows nothing of what the bytes mean. Invariant: what [`Disk::reserve`] gave can be written even when the file
//! system is full.

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Why a table cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Bytes are not what was written. No crash of ours does this.
    #[error("damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What should be there.
        what: &'static str,
    },
}

/// Bytes at places. A write that fails, or whose process is killed, may have written any beginning of what it was given.
pub(super) trait Disk {
    /// Reads exactly as many bytes as fit.
    ///
    /// # Errors
    /// As the file system says; also when the end comes before.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes all.
    ///
    /// # Errors
    /// As the file system says.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// How many bytes there are.
    ///
    /// # Errors
    /// As the file system says.
    fn length(&self) -> io::Result<u64>;

    /// Makes it at least this long, with zeros whose blocks exist.
    ///
    /// # Errors
    /// Mostly when the file system is full; then nothing that was there has changed.
    fn reserve(&self, length: u64) -> io::Result<()>;
}

impl<D: Disk> Disk for &D {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        (**self).read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        (**self).write_at(bytes, at)
    }

    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        (**self).reserve(length)
    }
}

impl Disk for File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self.write_all_at(bytes, at) {
            // It was opened for reading, since its file system takes no more.
            Err(e) if e.raw_os_error() == Some(Errno::BADF.raw_os_error()) => Err(Errno::ROFS.into()),
            done => done,
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        let has = self.length()?;
        let Some(missing) = length.checked_sub(has).filter(|missing| *missing > 0) else { return Ok(()) };
        match fallocate(self, FallocateFlags::empty(), has, missing) {
            // A file system that cannot promise blocks has at least these.
            Err(Errno::OPNOTSUPP) => {
                let zeros = vec![0; usize::try_from(missing).map_err(io::Error::other)?];
                self.write_all_at(&zeros, has)
            }
            done => Ok(done?),
        }
    }
}
