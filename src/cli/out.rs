//! What is written may find no room, or nobody there. `println!` and its like panic over that; here a standard output that
//! takes nothing is an exit code with its reason, and a reader that has seen enough and left is no fault at all. What a
//! failed command complained of is here told to programs as well, whichever command it was.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::json;

use super::exit;

/// A line on standard output.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::out::line(format_args!($($words)*)) };
}

/// The same without the end of the line.
macro_rules! put {
    ($($words:tt)*) => { $crate::cli::out::text(format_args!($($words)*)) };
}

/// A line on standard error that says why the command fails; with `--json` a program is told the same.
macro_rules! complain {
    ($($words:tt)*) => { $crate::cli::out::error(format!($($words)*)) };
}

/// A line on standard error for a person alone: the command goes on.
macro_rules! remark {
    ($($words:tt)*) => { $crate::cli::out::aside(format_args!($($words)*)) };
}

pub(super) use complain;
pub(super) use put;
pub(super) use remark;
pub(super) use say;

/// The first failure. It is kept and not returned: a move that is followed goes on to its end, whoever reads of it.
static FAULT: OnceLock<String> = OnceLock::new();

/// What was complained of, until a program is told.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(super) fn line(words: Arguments<'_>) {
    keep(writeln!(anstream::stdout(), "{words}"));
}

pub(super) fn text(words: Arguments<'_>) {
    keep(anstream::stdout().write_fmt(words));
}

/// Bytes as they are, for other programs to read.
pub(super) fn raw(bytes: &[u8]) {
    keep(io::stdout().write_all(bytes));
}

pub(super) fn error(words: String) {
    aside(format_args!("{words}"));
    complaints(|all| all.push(words));
}

/// A command line that is none, in words that stand on standard error already.
pub(super) fn misunderstood(words: String) {
    let words = words.trim().trim_start_matches("error: ").to_owned();
    complaints(|all| all.push(words));
}

fn complaints<T>(work: impl FnOnce(&mut Vec<String>) -> T) -> T {
    // A vector that is pushed to or emptied: no holder leaves it half done.
    work(&mut COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What was complained of, if anything was, for a document of the caller's own.
pub(super) fn told() -> Option<String> {
    words(&complaints(std::mem::take))
}

pub(super) fn aside(words: Arguments<'_>) {
    // Where standard error takes nothing either, the exit code alone is left to say it.
    drop(writeln!(anstream::stderr(), "{words}"));
}

/// Notes how a write to standard output went.
pub(super) fn keep(written: io::Result<()>) {
    if let Some(words) = fault(written) {
        // The first is the cause of those that follow.
        drop(FAULT.set(words));
    }
}

fn fault(written: io::Result<()>) -> Option<String> {
    // Whoever reads the first page and leaves has what they wanted.
    written.err().filter(|cause| cause.kind() != ErrorKind::BrokenPipe).map(|cause| cause.to_string())
}

/// The exit code of a command that ended with `code`, once what it printed is out. A code that says more than "done" stays.
///
/// With `json`, a command that failed ends with a document that says why.
pub(super) fn finish(code: u8, json: bool) -> u8 {
    if let Some(document) = failure(code, &complaints(std::mem::take)).filter(|_| json) {
        say!("{document}");
    }
    keep(io::stdout().flush());
    let Some(words) = FAULT.get() else { return code };
    complain!("watchover: writing to stdout: {words}");
    if code == exit::DONE { exit::FAILED } else { code }
}

fn failure(code: u8, complaints: &[String]) -> Option<serde_json::Value> {
    words(complaints).filter(|_| code != exit::DONE).map(|words| json!({"schema_version": 1, "error": words}))
}

fn words(complaints: &[String]) -> Option<String> {
    let words: Vec<&str> = complaints.iter().map(|words| words.trim_start_matches("watchover: ")).collect();
    (!words.is_empty()).then(|| words.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_failed_tells_a_program_what_it_complained_of() {
        let said = ["watchover: it is not there".to_owned(), "watchover: nor there".to_owned()];
        assert_eq!(failure(exit::USAGE, &said), Some(json!({"schema_version": 1, "error": "it is not there\nnor there"})));
        assert_eq!((failure(exit::DONE, &said), failure(exit::WAITING, &[])), (None, None));
    }

    #[test]
    fn only_a_reader_that_left_is_no_fault() {
        assert_eq!(fault(Ok(())), None);
        assert_eq!(fault(Err(ErrorKind::BrokenPipe.into())), None);
        assert!(fault(Err(ErrorKind::StorageFull.into())).is_some());
    }
}
