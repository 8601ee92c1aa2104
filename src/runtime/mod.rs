//! When things run.

pub mod clock;
pub mod control;
pub mod executor;
pub mod probing;
pub mod status;
