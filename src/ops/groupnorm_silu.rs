//! groupnorm_silu.
