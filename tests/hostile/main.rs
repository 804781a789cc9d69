//! Files that want to do harm: whatever they hold, the program answers with an error that names them, soon
//! and in little memory, or does what it would have done.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail so, in their helpers too")]

mod checkpoints;
mod cut;
#[path = "../common/data.rs"]
mod data;
mod demo;
mod fuzz;
mod grown;
mod memory;
mod mutations;
mod random;
mod watch;

use std::sync::Mutex;
use std::sync::MutexGuard;

/// Memory and time are the process's: tests that measure them run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
