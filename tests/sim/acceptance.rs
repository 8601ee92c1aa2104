//! The acceptance cases that concern one daemon, by their IDs. Each is proven by scenario files that begin with its ID, or
//! by tests that are named with it.

/// Every case. `tests/acceptance.rs` fails for an ID that nothing proves.
pub const IDS: &[&str] = &[
    "A01", "A02", "A03", "A04", "A05", "A06", "A08", "A10", "A11", "A12", "A14", "A15", "A17", "A18", "A19", "A21", "A23", "A26", "A28",
    "A31", "A35", "A37", "A39", "A40", "A44",
];
