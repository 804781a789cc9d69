//! Every op against hand-worked values and against the libraries it repeats.
#![expect(
    clippy::float_cmp,
    clippy::unwrap_used,
    reason = "hand-worked values are exact, and a helper of a test may fail it"
)]

#[path = "../golden/mod.rs"]
mod golden;

mod euler_step;
mod noise;
mod pack;
mod to_rgb8;
