//! gated_gelu.
