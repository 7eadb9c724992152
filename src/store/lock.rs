//! One process at a time: a lock on a file in the store's directory, holding the holder's pid.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::Error;

/// Held as long as it lives; the kernel releases it when the process ends, however it ends.
pub(super) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock of `dir`.
    ///
    /// # Errors
    /// [`Error::is_store_held`] with the holder's pid when another process has it.
    pub(super) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| Error::failed(format!("cannot open {}: {error}", path.display())))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let holder = match pid.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                let dir = dir.display();
                return Err(Error::store_held(format!("the store in {dir} is in use by {holder}")));
            }
            Err(errno) => return Err(Error::failed(format!("cannot lock {}: {errno}", path.display()))),
        }
        // The pid is for people; a disk too full to write it must not stop the start.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
