//! Oracle of `euler_step`.
