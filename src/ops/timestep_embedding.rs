//! timestep_embedding.
