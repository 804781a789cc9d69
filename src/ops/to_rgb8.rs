//! to_rgb8.
