//! Exit codes: scripts hang on them.

/// The same for `--help` and the man page.
pub const HELP: &str = "EXIT CODES:
  0 done, 1 failed, 2 usage or config invalid, 3 findings (check), 4 refused by a gate,
  5 daemon not reachable, 6 waiting for a person, 130 interrupted (the daemon goes on)";

/// Done.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// The command line or the config is not one.
pub const USAGE: u8 = 2;
/// `check` found something.
pub const FINDINGS: u8 = 3;
/// A gate refused.
pub const REFUSED: u8 = 4;
/// The daemon cannot be reached.
pub const UNREACHABLE: u8 = 5;
/// It waits for a person.
pub const WAITING: u8 = 6;
/// Ctrl-C: nobody follows any more, and what was asked for goes on; the shells' own code for it.
pub const INTERRUPTED: u8 = 130;
