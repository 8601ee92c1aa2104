//! One outside thing each.
//!
//! Siblings do not see each other, save the common ground: `aws`, `http`, `dns`.

pub mod registry;
pub mod sqlite;
