//! Oracle of `noise`.
