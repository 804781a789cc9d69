//! A finished picture.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ffi::c_char;
use std::time::Instant;

use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::ffi::failure::Failure;
use crate::ffi::status::flux_rt_status;
use crate::ffi::status::flux_rt_status::FLUX_RT_NULL;
use crate::ffi::status::flux_rt_status::FLUX_RT_OK;
use crate::ffi::status::flux_rt_status::FLUX_RT_SIZE;
use crate::ffi::structs;
use crate::ffi::text;
use crate::pipeline::Engine;
use crate::pipeline::Generated;
use crate::pipeline::RgbImage;
use crate::pipeline::Timings;

/// A finished picture. It does not need its engine any more, and may be read from several threads.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in C")]
pub struct flux_rt_picture {
    image: RgbImage,
    png: Vec<u8>,
    metadata: CString,
    /// None without a cache.
    cache_log: Option<CString>,
    /// None if there is nothing to say.
    notes: Option<CString>,
    /// The final ones, packed.
    latents: Tensor<f32, 2>,
    timings: flux_rt_timings,
}

impl flux_rt_picture {
    /// Finishes what was made: it is kept even if the weight files cannot be read any more.
    ///
    /// # Errors
    /// As [`crate::pipeline::Metadata::encode`].
    pub(super) fn new(engine: &mut Engine, model: &str, made: Generated) -> Result<Self> {
        let clock = Instant::now();
        let mut notes = made.notes();
        let weights = match engine.weight_digests() {
            Ok(digests) => digests.iter().cloned().collect(),
            Err(error) => {
                let Failure { message, .. } = error.into();
                notes.push(format!("the metadata do not hold the weights' digests: {message}"));
                BTreeMap::new()
            }
        };
        let metadata = engine.metadata_with(weights, model, None, &made)?;
        let cache_log = made.cache_record().map(|record| serde_json::to_string(&record));
        let cache_log = cache_log.transpose().map_err(|error| Error::Request {
            field: "cache",
            reason: format!("expected a log of numbers and texts that JSON has: {error}"),
        })?;
        let (png, metadata) = (metadata.encode(&made.image)?, metadata.to_json()?);
        let Timings { encode_ms, prepare_ms, denoise_ms, decode_ms } = made.timings;
        let finish_ms = clock.elapsed().as_secs_f64() * 1e3;
        let timings = flux_rt_timings { encode_ms, prepare_ms, denoise_ms, decode_ms, finish_ms };
        Ok(Self {
            image: made.image,
            png,
            metadata: text::owned(&metadata),
            cache_log: cache_log.as_deref().map(text::owned),
            notes: (!notes.is_empty()).then(|| text::owned(&notes.join("\n"))),
            latents: made.latents,
            timings,
        })
    }
}

/// Milliseconds that the phases of a picture took.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct flux_rt_timings {
    /// Prompt to text states; next to nothing if the engine remembers those of the prompt.
    pub encode_ms: f64,
    /// What does not depend on the latents.
    pub prepare_ms: f64,
    /// The steps, previews included.
    pub denoise_ms: f64,
    /// Latents to pixels.
    pub decode_ms: f64,
    /// PNG and metadata; for an engine's first picture with the digests of all weight files.
    pub finish_ms: f64,
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
        unsafe { size.write_unaligned(png.map_or(0, Vec::len)) };
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

/// What is to be said of the picture, in sentences, one a line: how much of the prompt was not read, or that the
/// metadata do without the weights' digests since a file could not be read any more. The text is the picture's; null
/// if there is nothing to say, and for a null picture.
///
/// # Safety
/// `picture` is null or a picture that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_notes(picture: *const flux_rt_picture) -> *const c_char {
    // SAFETY: the caller's promise.
    let notes = unsafe { picture.as_ref() }.and_then(|picture| picture.notes.as_ref());
    notes.map_or(std::ptr::null(), |notes| notes.as_ptr())
}

/// The final latents, before they were decoded, as `latents` of a request takes them. The numbers are the picture's
/// and are there until it is freed; null, and `count` 0, for a null picture.
///
/// # Safety
/// `picture` is null or a picture that is not freed; `count` is null or a place to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_latents(
    picture: *const flux_rt_picture,
    count: *mut usize,
) -> *const f32 {
    // SAFETY: the caller's promise.
    let latents = unsafe { picture.as_ref() }.map(|picture| picture.latents.host());
    if !count.is_null() {
        // SAFETY: the caller's promise.
        unsafe { count.write_unaligned(latents.map_or(0, <[f32]>::len)) };
    }
    latents.map_or(std::ptr::null(), <[f32]>::as_ptr)
}

/// How long the phases took. `size` is `sizeof (flux_rt_timings)`.
///
/// # Safety
/// `picture` is null or a picture that is not freed; `timings` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_picture_timings(
    picture: *const flux_rt_picture,
    timings: *mut flux_rt_timings,
    size: usize,
) -> flux_rt_status {
    // SAFETY: the caller's promise.
    let Some(picture) = (unsafe { picture.as_ref() }) else { return FLUX_RT_NULL };
    // SAFETY: the caller's promise.
    unsafe { structs::give(&picture.timings, timings, size) }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ffi::flux_rt_engine_free;
    use crate::ffi::flux_rt_engine_new;
    use crate::ffi::flux_rt_generate;
    use crate::ffi::flux_rt_options;
    use crate::ffi::flux_rt_request;

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let place = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy(&entry.path(), &place),
                false => drop(std::fs::copy(entry.path(), place).unwrap()),
            }
        }
    }

    /// The picture is there, and says what is missing.
    #[test]
    fn a_picture_outlives_its_weight_files() {
        let folder = tempfile::tempdir().unwrap();
        copy(Path::new("tests/goldens/dev"), folder.path());
        let model = text::owned(folder.path().to_str().unwrap());
        let device = c"cpu".as_ptr();
        let options = flux_rt_options { model: model.as_ptr(), device, ..Default::default() };
        let request = flux_rt_request { steps: 1, width: 16, height: 16, ..Default::default() };
        let (mut engine, mut picture) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: both are there.
        let loaded = unsafe { flux_rt_engine_new(&raw const options, &raw mut engine) };
        assert_eq!(loaded, flux_rt_status::FLUX_RT_OK);
        std::fs::remove_file(folder.path().join("vae/diffusion_pytorch_model.safetensors"))
            .unwrap();
        // SAFETY: the engine is not freed yet.
        let made = unsafe { flux_rt_generate(engine, &raw const request, &raw mut picture) };
        assert_eq!(made, flux_rt_status::FLUX_RT_OK);
        // SAFETY: it is freed once.
        unsafe { flux_rt_engine_free(engine) };
        // SAFETY: the picture was made.
        let texts = unsafe { &*picture };
        let notes = texts.notes.as_ref().unwrap().to_str().unwrap();
        assert!(notes.contains("do not hold the weights' digests: "), "{notes}");
        assert!(texts.metadata.to_str().unwrap().contains("\"weights\":{}"));
        let mut size = 0;
        // SAFETY: as above.
        let png = unsafe { flux_rt_picture_png(picture, &raw mut size) };
        assert!(!png.is_null() && size > 100);
        // SAFETY: it is freed once.
        unsafe { flux_rt_picture_free(picture) };
    }
}
