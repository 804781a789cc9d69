//! upsample.
