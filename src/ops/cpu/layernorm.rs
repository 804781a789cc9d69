//! Oracle of `layernorm`.
