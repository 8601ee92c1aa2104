//! When things run.

#[cfg(feature = "daemon")]
pub mod admin;
mod apps;
pub mod beats;
mod carry;
pub mod clock;
pub mod control;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod executor;
mod families;
mod gauges;
pub mod hands;
#[cfg(feature = "daemon")]
pub mod listen;
#[cfg(feature = "daemon")]
pub mod logging;
pub mod message;
pub mod metrics;
#[cfg(feature = "daemon")]
pub mod order;
#[cfg(feature = "daemon")]
pub mod past;
pub mod post;
pub mod probing;
#[cfg(feature = "daemon")]
mod question;
#[cfg(feature = "daemon")]
mod reload;
pub mod replay;
mod series;
pub mod status;
#[cfg(feature = "daemon")]
mod steer;
pub mod supervisor;
#[cfg(feature = "daemon")]
pub mod systemd;
mod turns;
mod waits;
#[cfg(feature = "daemon")]
pub mod watch;
