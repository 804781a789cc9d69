//! euler_step.
