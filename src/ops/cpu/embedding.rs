//! Oracle of `embedding`.
