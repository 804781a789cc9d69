//! The library for C: its header, and programs in C, C++ and Python that use it.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod header;
mod programs;
