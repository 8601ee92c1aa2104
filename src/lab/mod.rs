//! A pretend two-region AWS cloud.
//!
//! `world` is its truth: pure, seeded, time an argument. Everything else is a face of it at wire level on
//! loopback: AWS's protocols, load balancers, a name server, users who write, a hand that breaks and mends,
//! and a referee who says whether what happened was right. Many labs live side by side, each on its own ports.

#[cfg(feature = "daemon")]
mod action;
#[cfg(feature = "daemon")]
mod addresses;
#[cfg(feature = "daemon")]
mod aws;
#[cfg(feature = "daemon")]
mod cloud;
#[cfg(feature = "daemon")]
mod config;
#[cfg(feature = "daemon")]
mod control;
#[cfg(feature = "daemon")]
mod dns;
pub mod faults;
#[cfg(feature = "daemon")]
mod postgres;
pub mod profile;
#[cfg(feature = "daemon")]
pub mod referee;
#[cfg(feature = "daemon")]
mod running;
#[cfg(feature = "daemon")]
pub mod scenarios;
#[cfg(feature = "daemon")]
mod serve;
#[cfg(feature = "daemon")]
mod sites;
#[cfg(feature = "daemon")]
mod words;
pub mod world;
#[cfg(feature = "daemon")]
mod writers;

#[cfg(feature = "daemon")]
pub use action::{Action, Says};
#[cfg(feature = "daemon")]
pub use addresses::{Addresses, AppAddresses, AppSite, SiteAddresses};
#[cfg(feature = "daemon")]
pub use aws::{SESSION_SECRET, SESSION_TOKEN};
#[cfg(feature = "daemon")]
pub use cloud::{Calls, Cloud};
#[cfg(feature = "daemon")]
pub use config::{ConfigOptions, Plans};
#[cfg(feature = "daemon")]
pub use running::{Engine, Lab, LabSpec, Setting};
#[cfg(feature = "daemon")]
pub use writers::{Log, Stretch};
