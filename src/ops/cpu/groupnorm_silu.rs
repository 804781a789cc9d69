//! Oracle of `groupnorm_silu`.
