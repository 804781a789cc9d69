//! A finished picture.

use std::ffi::CString;
use std::ffi::c_char;

use crate::ffi::status::flux_rt_status;
use crate::ffi::status::flux_rt_status::FLUX_RT_NULL;
use crate::ffi::status::flux_rt_status::FLUX_RT_OK;
use crate::ffi::status::flux_rt_status::FLUX_RT_SIZE;
use crate::pipeline::RgbImage;
use crate::pipeline::Timings;

/// A finished picture. It does not need its engine any more, and may be read from several threads.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in C")]
pub struct flux_rt_picture {
    pub(super) image: RgbImage,
    pub(super) png: Vec<u8>,
    pub(super) metadata: CString,
    /// None without a cache.
    pub(super) cache_log: Option<CString>,
    pub(super) timings: Timings,
}

/// Milliseconds that the phases of a picture took.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct flux_rt_timings {
    /// Prompt to text states; 0 if the engine knew them.
    pub encode_ms: f64,
    /// What does not depend on the latents.
    pub prepare_ms: f64,
    /// The steps, previews included.
    pub denoise_ms: f64,
    /// Latents to pixels.
    pub decode_ms: f64,
}

/// Pixels of a row; 0 for null.
///
/// # Safety
/// `picture` is null or a picture that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_width(picture: *const flux_rt_picture) -> u32 {
    // SAFETY: the caller's promise.
    let picture = unsafe { picture.as_ref() };
    picture.map_or(0, |picture| u32::try_from(picture.image.width).unwrap_or(0))
}

/// Rows; 0 for null.
///
/// # Safety
/// `picture` is null or a picture that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_height(picture: *const flux_rt_picture) -> u32 {
    // SAFETY: the caller's promise.
    let picture = unsafe { picture.as_ref() };
    picture.map_or(0, |picture| u32::try_from(picture.image.height).unwrap_or(0))
}

/// Copies the pixels into a buffer of the caller's: rows from the top, three bytes a pixel. `size` must be
/// `width * height * 3`.
///
/// # Safety
/// `picture` is null or a picture that is not freed; `buffer` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_rgb(
    picture: *const flux_rt_picture,
    buffer: *mut u8,
    size: usize,
) -> flux_rt_status {
    // SAFETY: the caller's promise.
    let Some(picture) = (unsafe { picture.as_ref() }) else { return FLUX_RT_NULL };
    if buffer.is_null() {
        return FLUX_RT_NULL;
    }
    let pixels = &picture.image.data;
    if size != pixels.len() {
        return FLUX_RT_SIZE;
    }
    // SAFETY: the buffer has room for as many bytes; it is the caller's, not the picture's.
    unsafe { std::ptr::copy_nonoverlapping(pixels.as_ptr(), buffer, size) };
    FLUX_RT_OK
}

/// The picture as a PNG file with all settings in it, as the program writes it. The bytes are the picture's and
/// are there until it is freed; null, and `size` 0, for a null picture.
///
/// # Safety
/// `picture` is null or a picture that is not freed; `size` is null or a place to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_png(
    picture: *const flux_rt_picture,
    size: *mut usize,
) -> *const u8 {
    // SAFETY: the caller's promise.
    let png = unsafe { picture.as_ref() }.map(|picture| &picture.png);
    if !size.is_null() {
        // SAFETY: the caller's promise.
        unsafe { size.write(png.map_or(0, Vec::len)) };
    }
    png.map_or(std::ptr::null(), |png| png.as_ptr())
}

/// All settings, as the JSON that the PNG holds. The text is the picture's; null for a null picture.
///
/// # Safety
/// `picture` is null or a picture that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_metadata(
    picture: *const flux_rt_picture,
) -> *const c_char {
    // SAFETY: the caller's promise.
    let picture = unsafe { picture.as_ref() };
    picture.map_or(std::ptr::null(), |picture| picture.metadata.as_ptr())
}

/// The options of the cache and what it decided in every step, as JSON. The text is the picture's; null without a
/// cache, and for a null picture.
///
/// # Safety
/// `picture` is null or a picture that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_cache_log(
    picture: *const flux_rt_picture,
) -> *const c_char {
    // SAFETY: the caller's promise.
    let log = unsafe { picture.as_ref() }.and_then(|picture| picture.cache_log.as_ref());
    log.map_or(std::ptr::null(), |log| log.as_ptr())
}

/// How long the phases took.
///
/// # Safety
/// `picture` is null or a picture that is not freed; `timings` is null or a place to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_timings(
    picture: *const flux_rt_picture,
    timings: *mut flux_rt_timings,
) -> flux_rt_status {
    // SAFETY: the caller's promise.
    let Some(picture) = (unsafe { picture.as_ref() }) else { return FLUX_RT_NULL };
    if timings.is_null() {
        return FLUX_RT_NULL;
    }
    let Timings { encode_ms, prepare_ms, denoise_ms, decode_ms } = picture.timings;
    let found = flux_rt_timings { encode_ms, prepare_ms, denoise_ms, decode_ms };
    // SAFETY: the caller's promise.
    unsafe { timings.write(found) };
    FLUX_RT_OK
}

/// Frees a picture; null is allowed.
///
/// # Safety
/// `picture` is null or a picture that is not freed and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_free(picture: *mut flux_rt_picture) {
    if !picture.is_null() {
        // SAFETY: the caller's promise; pictures are made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(picture) });
    }
}
