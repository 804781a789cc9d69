//! The DualCache: its table, its schedule, and what cache-dit itself decided.
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a helper of a test may fail it; the fixture's numbers are small"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../golden/mod.rs"]
mod golden;

mod model;
mod rule;
mod schedule;
mod trace;
mod traces;
