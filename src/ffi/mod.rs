//! The library for C and whatever calls C: `include/flux_rt.h` is made from this module.
//!
//! An engine is a handle that is there even if the model could not be loaded, so that its message can be
//! read, and that stays until the last call that uses it returns. Functions return a status, and nothing unwinds into
//! the caller. There is no global state: a log, progress and previews go to functions of the caller's.
#![expect(unsafe_code, reason = "pointers of the caller's")]

mod engine;
mod failure;
mod generate;
mod options;
mod panic;
mod picture;
mod request;
mod status;
mod structs;
mod text;

pub use engine::flux_rt_cancel;
pub use engine::flux_rt_defaults;
pub use engine::flux_rt_engine;
pub use engine::flux_rt_engine_defaults;
pub use engine::flux_rt_engine_device;
pub use engine::flux_rt_engine_free;
pub use engine::flux_rt_engine_message;
pub use engine::flux_rt_engine_new;
pub use engine::flux_rt_version;
pub use generate::flux_rt_generate;
pub use generate::flux_rt_phase;
pub use options::flux_rt_options;
pub use options::flux_rt_options_init;
pub use picture::flux_rt_picture;
pub use picture::flux_rt_picture_cache_log;
pub use picture::flux_rt_picture_free;
pub use picture::flux_rt_picture_height;
pub use picture::flux_rt_picture_latents;
pub use picture::flux_rt_picture_metadata;
pub use picture::flux_rt_picture_notes;
pub use picture::flux_rt_picture_png;
pub use picture::flux_rt_picture_rgb;
pub use picture::flux_rt_picture_timings;
pub use picture::flux_rt_picture_width;
pub use picture::flux_rt_timings;
pub use request::flux_rt_request;
pub use request::flux_rt_request_init;
pub use status::flux_rt_status;
pub use status::flux_rt_status_text;
pub use structs::FLUX_RT_ABI_VERSION;
