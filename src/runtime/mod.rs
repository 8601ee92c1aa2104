//! When things run.

pub mod admin;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod executor;
pub mod hands;
pub mod logging;
pub mod metrics;
pub mod order;
pub mod probing;
pub mod replay;
pub mod status;
pub mod supervisor;
pub mod systemd;
pub mod watch;
