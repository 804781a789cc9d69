//! Oracle of `layernorm_modulate`.
