//! Oracle of `rmsnorm`.
