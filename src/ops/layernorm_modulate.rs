//! layernorm_modulate.
