//! Oracle of `gated_gelu`.
