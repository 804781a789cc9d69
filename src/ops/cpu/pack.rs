//! Oracle of `pack`.
