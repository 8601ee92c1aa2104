//! What is written may find no room, or nobody there. `println!` and its like panic over that; here a standard output that
//! takes nothing is an exit code with its reason, and a reader that has seen enough and left is no fault at all.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use super::exit;

/// A line on standard output.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::out::line(format_args!($($words)*)) };
}

/// The same without the end of the line.
macro_rules! put {
    ($($words:tt)*) => { $crate::cli::out::text(format_args!($($words)*)) };
}

/// A line on standard error.
macro_rules! complain {
    ($($words:tt)*) => { $crate::cli::out::error(format_args!($($words)*)) };
}

pub(super) use complain;
pub(super) use put;
pub(super) use say;

/// The first failure. It is kept and not returned: a move that is followed goes on to its end, whoever reads of it.
static FAULT: OnceLock<String> = OnceLock::new();

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

pub(super) fn error(words: Arguments<'_>) {
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
pub(super) fn finish(code: u8) -> u8 {
    keep(io::stdout().flush());
    let Some(words) = FAULT.get() else { return code };
    complain!("watchover: writing to stdout: {words}");
    if code == exit::DONE { exit::FAILED } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_that_left_is_no_fault() {
        assert_eq!(fault(Ok(())), None);
        assert_eq!(fault(Err(ErrorKind::BrokenPipe.into())), None);
        assert!(fault(Err(ErrorKind::StorageFull.into())).is_some());
    }
}
