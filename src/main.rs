//! The `flux-rt` program.

fn main() {}
