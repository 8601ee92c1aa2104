//! When things run.

pub mod admin;
mod apps;
pub mod beats;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod executor;
mod families;
pub mod hands;
pub mod listen;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod order;
pub mod past;
pub mod post;
pub mod probing;
mod reload;
pub mod replay;
mod series;
pub mod status;
mod steer;
pub mod supervisor;
pub mod systemd;
mod turns;
pub mod watch;
