//! layernorm.
