//! hf_cache.
