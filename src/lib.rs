//! watchover: a failover manager for two AWS regions.
//!
//! The layers, downwards only: `cli > runtime > adapters > config > ports > domain`. The `lab` stands beside
//! them and sees `ports` and `domain::model` alone.
#![forbid(unsafe_code)]

#[cfg(feature = "daemon")]
pub mod adapters;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
pub mod domain;
pub mod lab;
pub mod ports;
pub mod runtime;
