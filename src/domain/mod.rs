//! What is true and what should happen. No I/O, no clock, no async: `now` is always an argument.

pub mod app;
pub mod autonomy;
mod calling_off;
pub mod decide;
pub mod entry;
mod exposure;
#[cfg(test)]
pub(crate) mod fixtures;
mod fold;
pub mod front;
pub mod gates;
pub mod health;
pub mod ledger;
mod left;
pub mod model;
pub mod moving;
pub mod notice;
pub mod orders;
pub mod permit;
pub mod plan;
pub mod policy;
mod preflight;
pub mod quorum;
pub mod report;
pub mod rpo;
pub mod run;
pub mod words;
