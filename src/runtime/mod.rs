//! When things run.

pub mod clock;
pub mod control;
pub mod executor;
pub mod logging;
pub mod probing;
pub mod status;
pub mod supervisor;
pub mod systemd;
pub mod watch;
