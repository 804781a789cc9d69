//! Oracle of `to_rgb8`.
