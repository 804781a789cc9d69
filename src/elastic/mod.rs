//! Elastic modes: precision and width plans.
