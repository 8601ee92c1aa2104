//! The directory, the lock and the file: everything around the database that can be wrong, by name.
//!
//! Whatever runs in the process that writes the journal asks the file system about the database and the files beside it,
//! and opens none of them past SQLite: by POSIX, to close any descriptor of a file lets go of every lock that the process
//! holds on it, SQLite's too. The next one to come then takes itself for the only one, and removes the log when it leaves.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{Access, access};

use super::Trouble;
use crate::ports::JournalError;

/// How long a reader's lock is waited for; readers hold theirs for milliseconds.
const BUSY: Duration = Duration::from_secs(2);

/// Bytes of the lock file that are shown of its holder.
const HOLDER: u64 = 400;

pub(super) fn unwritable(file: &Path, operation: &'static str, cause: impl Into<String>) -> JournalError {
    JournalError::Unwritable { path: file.display().to_string(), operation, cause: cause.into() }
}

/// A failure of the file system, with what to do about it.
fn refused(file: &Path, operation: &'static str, at: &Path, cause: &io::Error) -> Trouble {
    let hint = match cause.kind() {
        io::ErrorKind::PermissionDenied => "; run as the user that owns it, or give this one access",
        io::ErrorKind::NotFound => "; is `daemon.state_dir` right, and has a daemon ever run there?",
        io::ErrorKind::ReadOnlyFilesystem => "; the file system is read-only: choose another `daemon.state_dir` or remount it",
        io::ErrorKind::NotADirectory => "; a file stands where a directory is needed: choose another `daemon.state_dir`",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space there",
        _ => "",
    };
    let error = unwritable(file, operation, format!("{}: {cause}{hint}", at.display()));
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::Full(error),
        _ => Trouble::Other(error),
    }
}

/// What SQLite's codes mean here, and what to do.
pub(super) fn explain(cause: &rusqlite::Error) -> String {
    let hint = match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "; the disk is full: free some space there",
        Some(ErrorCode::NotADatabase) => {
            "; it is not a journal: move the file away and state the active site with `watchover adopt`, or restore it"
        }
        Some(ErrorCode::DatabaseCorrupt) => "; it is damaged: move it away and state the active site with `watchover adopt`, or restore it",
        Some(ErrorCode::ReadOnly) => "; the file or its file system is read-only: make it writable for this user",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "; another process keeps it locked: end whatever has it open (`fuser`)"
        }
        Some(ErrorCode::CannotOpen) => "; the directory must be writable for this user",
        Some(ErrorCode::SystemIoFailure) => "; the disk fails: look at the kernel's log",
        _ => "",
    };
    format!("{cause}{hint}")
}

/// Makes `state_dir` if it is missing; leaves the mode of one that stands.
pub(super) fn make_dir(state_dir: &Path) -> Result<(), JournalError> {
    let file = state_dir.join(super::FILE);
    let made = DirBuilder::new().recursive(true).mode(0o750).create(state_dir);
    made.map_err(|cause| refused(&file, "making state_dir", state_dir, &cause).plain())
}

/// Takes the place for this process. The kernel lets go of it when the process ends, however it ends.
pub(super) fn lock(state_dir: &Path, file: &Path) -> Result<File, JournalError> {
    let path = state_dir.join("lock");
    let failed = |cause: io::Error| refused(file, "locking state_dir", &path, &cause).plain();
    let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
        Err(TryLockError::WouldBlock) => {
            let mut text = Vec::new();
            let holder = match Read::by_ref(&mut lock).take(HOLDER).read_to_end(&mut text) {
                Ok(_) if !text.trim_ascii().is_empty() => String::from_utf8_lossy(text.trim_ascii()).into_owned(),
                _ => "it has not signed the lock yet".to_owned(),
            };
            Err(JournalError::Held { path: file.display().to_string(), holder })
        }
    }
}

/// Says in the lock who holds it.
pub(super) fn sign(mut lock: &File, file: &Path, observer: &str) -> Result<(), Trouble> {
    let signed = lock.rewind().and_then(|()| lock.set_len(0)).and_then(|()| {
        let line = format!("pid {}, observer {}\n", std::process::id(), observer.replace(['\n', '\r'], " "));
        lock.write_all(line.as_bytes())
    });
    signed.map_err(|cause| refused(file, "signing the lock", Path::new("lock"), &cause))
}

/// Makes the file with its mode; SQLite gives the log and the index beside it the same one. Before it is opened there, and
/// only then: see above.
pub(super) fn make_file(file: &Path) -> Result<(), Trouble> {
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(file);
    made.map(drop).map_err(|cause| refused(file, "opening", file, &cause))
}

/// Makes the names of new files durable.
pub(super) fn sync_dir(state_dir: &Path, file: &Path) -> Result<(), Trouble> {
    let synced = File::open(state_dir).and_then(|dir| dir.sync_all());
    synced.map_err(|cause| refused(file, "making its name durable", state_dir, &cause))
}

/// The files as they were when they were opened. What is written into one that was since deleted is taken by the system
/// and gone with the process: no error would ever tell.
pub(super) struct Anchor(Vec<(PathBuf, u64, u64)>);

impl Anchor {
    /// The lock, by which a second daemon is kept out, the file, and the log that holds its newest rows.
    pub(super) fn drop_at(state_dir: &Path, file: &Path) -> Result<Anchor, JournalError> {
        let seen = |path: PathBuf| fs::metadata(&path).map(|found| (path, found.dev(), found.ino()));
        let all = [state_dir.join("lock"), file.to_owned(), beside(file, "-wal")].map(seen);
        let all = all.into_iter().collect::<io::Result<_>>();
        Ok(Anchor(all.map_err(|cause| refused(file, "opening", state_dir, &cause).plain())?))
    }

    /// That they still stand where they stood.
    pub(super) fn check(&self, file: &Path) -> Result<(), JournalError> {
        let holds = |one: &&(PathBuf, u64, u64)| fs::metadata(&one.0).is_ok_and(|found| (found.dev(), found.ino()) == (one.1, one.2));
        let Some((lost, ..)) = self.0.iter().find(|one| !holds(one)) else { return Ok(()) };
        let cause = format!(
            "{} was removed or replaced beneath us; put back the very files, or start it again and state the active site with `watchover adopt`",
            lost.display()
        );
        Err(unwritable(file, "writing", cause))
    }
}

/// One connection, bounded in what it waits for.
pub(super) fn connect(file: &Path, read_only: bool) -> rusqlite::Result<Connection> {
    let access = if read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let db = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "trusted_schema", false)?;
    Ok(db)
}

/// A private directory, gone with its value.
pub(super) struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir_all(&self.0) {
            tracing::warn!(copy = %self.0.display(), %cause, "a copy of the journal is left behind; remove it");
        }
    }
}

/// Opens for reading, whoever writes, also in the process that does.
pub(super) fn open_for_reading(file: &Path) -> Result<Connection, JournalError> {
    is_readable(file)?;
    open_directly(file).map_err(|cause| unwritable(file, "opening for reading", explain(&cause)))
}

/// The same in a process that does not write. SQLite wants an index file beside a log; where neither it nor we can make one
/// (a read-only medium), the file and its log are copied to where we can.
pub(super) fn open_or_copy(file: &Path) -> Result<(Connection, Option<Copy>), JournalError> {
    is_readable(file)?;
    let failed = |cause: rusqlite::Error| unwritable(file, "opening for reading", explain(&cause));
    let cause = match open_directly(file) {
        Ok(db) => return Ok((db, None)),
        Err(cause) => cause,
    };
    if !matches!(cause.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) {
        return Err(failed(cause));
    }
    let copy = private_dir().map_err(|cause| unreadable(file, &std::env::temp_dir(), &cause))?;
    let target = copy.0.join(super::FILE);
    for end in ["", "-wal"] {
        let from = beside(file, end);
        match fs::copy(&from, beside(&target, end)) {
            Err(cause) if !end.is_empty() && cause.kind() == io::ErrorKind::NotFound => {}
            other => other.map(drop).map_err(|cause| unreadable(file, &from, &cause))?,
        }
    }
    let db = connect(&target, true).map_err(failed)?;
    Ok((db, Some(copy)))
}

/// SQLite says "unable to open" for everything; the system says why.
fn is_readable(file: &Path) -> Result<(), JournalError> {
    let asked = access(file, Access::READ_OK).map_err(io::Error::from);
    asked.map_err(|cause| unreadable(file, file, &cause))
}

fn unreadable(file: &Path, at: &Path, cause: &io::Error) -> JournalError {
    refused(file, "opening for reading", at, cause).plain()
}

fn open_directly(file: &Path) -> rusqlite::Result<Connection> {
    let db = connect(file, true)?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(db)
}

pub(super) fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Made by us and nobody else: `create` fails on a name that stands, so a prepared link is never followed.
fn private_dir() -> io::Result<Copy> {
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for turn in 0..100 {
        let dir = std::env::temp_dir().join(format!("watchover-read-{}-{turn}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(Copy(dir)),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => last = cause,
            Err(cause) => return Err(cause),
        }
    }
    Err(last)
}
