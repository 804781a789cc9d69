//! Oracle of `attention`.
