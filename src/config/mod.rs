//! The config file: its shape, its documentation, and the judge that turns it into domain values.

pub mod judge;
