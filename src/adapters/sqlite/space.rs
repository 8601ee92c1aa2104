//! Space kept in reserve, so that a disk that fills during a move does not stop it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::place::unwritable;
use crate::ports::JournalError;

/// Pages of 4 KiB after which the write-ahead log is folded into the file and used anew.
///
/// SQLite's own 1000 would let the log outgrow the reserve before it is used anew; fewer would sync twice more often.
pub(super) const LOG_PAGES: u32 = 256;

/// Bytes kept: the log at its full length, and as much again for the entries of the move (a few hundred).
const SIZE: u64 = 2 * LOG_PAGES as u64 * 4096;

/// A file whose only worth is its length.
pub(super) struct Reserve {
    file: PathBuf,
    held: bool,
}

impl Reserve {
    /// What stands there from an earlier run.
    pub(super) fn find(state_dir: &Path) -> Reserve {
        let file = state_dir.join("reserve");
        let held = fs::metadata(&file).is_ok_and(|found| found.len() >= SIZE);
        Reserve { file, held }
    }

    /// True while the space is kept.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Gives the space back to the file system; false if there was none to give.
    pub(super) fn release(&mut self, journal: &Path) -> Result<bool, JournalError> {
        if !self.held {
            return Ok(false);
        }
        // Cut and synced before it is removed: some file systems free blocks only once that is on the disk.
        let freed = OpenOptions::new().write(true).open(&self.file).and_then(|file| {
            file.set_len(0)?;
            file.sync_all()?;
            fs::remove_file(&self.file)
        });
        // Somebody else made room with it and used that up: what the caller found wrong is the full disk, not this.
        if freed.as_ref().is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound) {
            self.held = false;
            return Ok(false);
        }
        freed.map_err(|cause| unwritable(journal, "releasing the reserved space", format!("{}: {cause}", self.file.display())))?;
        self.held = false;
        Ok(true)
    }

    /// Takes the space again once there is plenty. Without it the journal still works: a lack here is no error.
    pub(super) fn refill(&mut self) {
        if self.held {
            return;
        }
        let plenty = self
            .file
            .parent()
            .and_then(|dir| statvfs(dir).ok())
            .is_some_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= 2 * SIZE);
        if plenty {
            self.held = allocate(&self.file).is_ok();
            if !self.held
                && let Err(cause) = fs::remove_file(&self.file)
                && cause.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %self.file.display(), %cause, "half a reserve is left behind; remove the file");
            }
        }
    }
}

fn allocate(path: &Path) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
        Ok(()) => {}
        // No such call here: real bytes, and none that a file system would leave out as a hole.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let block = [0xA5_u8; 4096];
            for _ in 0..SIZE / 4096 {
                file.write_all(&block)?;
            }
        }
        Err(cause) => return Err(cause.into()),
    }
    file.sync_all()
}

/// True if more space may cure it. Quota (EDQUOT) arrives as a failed write; a failed *sync* is never tried again, because
/// the kernel may have dropped what it could not write.
pub(super) fn is_lack_of_space(cause: &rusqlite::Error) -> bool {
    let extended = cause.sqlite_error().map(|error| error.extended_code);
    cause.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || matches!(extended, Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE | rusqlite::ffi::SQLITE_IOERR_WRITE))
}
