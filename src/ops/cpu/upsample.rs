//! Oracle of `upsample`.
