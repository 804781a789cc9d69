//! Elastic modes: named plans of precision and width.
//!
//! A mode is parsed and recorded everywhere; what a device cannot do yet is said by
//! [`crate::pipeline::Engine::notes`], never silently ignored.

pub mod choice;
pub mod cost;
pub mod file;
mod mode;
mod plan;
pub mod sorted;
pub mod statistics;
pub mod stored;

pub use mode::Mode;
pub use mode::RecordedPlan;
pub use plan::Measured;
pub use plan::Plan;
