//! rmsnorm.
