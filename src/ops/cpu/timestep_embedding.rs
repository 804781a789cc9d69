//! Oracle of `timestep_embedding`.
