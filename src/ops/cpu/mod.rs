//! The oracles: plain loops over host slices, f32 values, sums in f64.

pub(super) mod attention;
pub(super) mod conv2d;
pub(super) mod embedding;
pub(super) mod euler_step;
pub(super) mod gated_gelu;
pub(super) mod gemm;
pub(super) mod groupnorm_silu;
pub(super) mod layernorm;
pub(super) mod layernorm_modulate;
pub(super) mod noise;
pub(super) mod pack;
pub(super) mod rmsnorm;
pub(super) mod timestep_embedding;
pub(super) mod to_rgb8;
pub(super) mod upsample;
