//! Oracle of `conv2d`.
