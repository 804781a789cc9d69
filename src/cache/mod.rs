//! DualCache: options and presets.
