//! What a picture is made with.

use std::ffi::c_char;
use std::ffi::c_void;
use std::path::Path;

use crate::cache::CacheOptions;
use crate::cache::Preset;
use crate::cache::file;
use crate::device::Tensor;
use crate::elastic::Mode;
use crate::error::Error;
use crate::error::Result;
use crate::ffi::status::flux_rt_status;
use crate::ffi::structs;
use crate::ffi::text;
use crate::ops::noise::Grid;
use crate::pipeline::Request;
use crate::pipeline::Rng;

/// What a picture is made with. Set all of it with `flux_rt_request_init`, then change what is to be otherwise.
/// Texts are UTF-8, and are not needed any more when `flux_rt_generate` returns.
///
/// The functions are called on the thread that calls `flux_rt_generate`. They may free the engine, and call every
/// function; `flux_rt_generate` with the same engine returns `FLUX_RT_BUSY` to them. They must return: no C++ exception
/// and no `longjmp` may leave them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flux_rt_request {
    /// The bytes of this struct, set by `flux_rt_request_init`.
    pub size: usize,
    /// What the picture shows. Null is the model's example.
    pub prompt: *const c_char,
    /// Another text for T5. Null is none.
    pub prompt_2: *const c_char,
    /// The same seed draws the same picture.
    pub seed: u64,
    /// Pixels, a multiple of 16; 0 is the model's default.
    pub width: u32,
    /// Pixels, a multiple of 16; 0 is the model's default.
    pub height: u32,
    /// Denoising steps; 0 is the model's default.
    pub steps: u32,
    /// T5 tokens of the prompt that are read, padding included; 0 is the model's default.
    pub max_sequence_length: u32,
    /// How closely the picture follows the prompt; below 0 is the model's default.
    pub guidance: f32,
    /// Not 0: decodes a picture larger than the VAE's own size in overlapping tiles.
    pub vae_tiling: i32,
    /// One of the engine's modes. Null is its first.
    pub mode: *const c_char,
    /// `none`, `conservative`, `aggressive`, or options as a cache's TOML file has them, in one or more lines
    /// such as `preset = "aggressive"`. Null is `none`.
    pub cache: *const c_char,
    /// Whose random numbers the noise is: `torch-cuda`, `torch-cpu` or `torch-cpu-legacy`. Null is `torch-cuda`.
    pub rng: *const c_char,
    /// The blocks of 256 threads of the card that `torch-cuda` repeats; 0 is the card that computes, on the CPU
    /// an H100.
    pub rng_grid: u32,
    /// Latents to begin with instead of noise, or null: those of `flux_rt_picture_latents`, for each 16 x 16 pixels, in
    /// rows from the top, the 4 values of the first channel, then of the next; 64 numbers for FLUX.1's 16 channels.
    pub latents: *const f32,
    /// How many numbers these are.
    pub latents_count: usize,
    /// After every how many steps `preview` is called; 0 is never. Each preview takes as long as decoding the picture,
    /// and does not change it.
    pub preview_every: u32,
    /// Called when a phase begins, which is a `flux_rt_phase`, and after each step, with how many of the `steps` are
    /// done: 0 until the first is, all of them when the picture is decoded. Stops the picture by returning anything
    /// but 0: that stops this one and no other, where `flux_rt_cancel` may come before it begins. May be null.
    pub progress: Option<
        unsafe extern "C" fn(user_data: *mut c_void, phase: i32, done: u32, steps: u32) -> i32,
    >,
    /// Called with what the picture will be as far as the steps so far tell: `width * height * 3` bytes, rows from
    /// the top, that are there until it returns. May be null.
    pub preview: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            rgb: *const u8,
            width: u32,
            height: u32,
            done: u32,
        ),
    >,
    /// Handed to `progress` and `preview`.
    pub user_data: *mut c_void,
}

impl Default for flux_rt_request {
    fn default() -> Self {
        Self {
            size: size_of::<Self>(),
            prompt: std::ptr::null(),
            prompt_2: std::ptr::null(),
            seed: 0,
            width: 0,
            height: 0,
            steps: 0,
            max_sequence_length: 0,
            guidance: -1.0,
            vae_tiling: 0,
            mode: std::ptr::null(),
            cache: std::ptr::null(),
            rng: std::ptr::null(),
            rng_grid: 0,
            latents: std::ptr::null(),
            latents_count: 0,
            preview_every: 0,
            progress: None,
            preview: None,
            user_data: std::ptr::null_mut(),
        }
    }
}

/// Sets every field to its default. `size` is `sizeof (flux_rt_request)`, and `abi_version` is `FLUX_RT_ABI_VERSION`;
/// with others it is `FLUX_RT_VERSION`, and no function will take the struct.
///
/// # Safety
/// `request` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_request_init(
    request: *mut flux_rt_request,
    size: usize,
    abi_version: u32,
) -> flux_rt_status {
    // SAFETY: the caller's promise.
    unsafe { structs::init(request, size, abi_version) }
}

impl flux_rt_request {
    /// The request, and its mode; none is the engine's first.
    ///
    /// # Errors
    /// [`Error::Request`] naming the field.
    ///
    /// # Safety
    /// Texts are null or end with 0.
    pub(super) unsafe fn read(&self) -> Result<(Request, Option<Mode>)> {
        // SAFETY: the caller's promise, here and below.
        let prompt = unsafe { text::read("prompt", self.prompt) }?;
        // SAFETY: see above.
        let prompt_2 = unsafe { text::read("prompt_2", self.prompt_2) }?;
        // SAFETY: see above.
        let mode = unsafe { text::read("mode", self.mode) }?;
        // SAFETY: see above.
        let cache = unsafe { text::read("cache", self.cache) }?;
        // SAFETY: see above.
        let rng = unsafe { text::read("rng", self.rng) }?;
        let number = |value: u32| (value > 0).then_some(value as usize);
        let mut request = Request {
            prompt: prompt.map(str::to_owned),
            prompt_2: prompt_2.map(str::to_owned),
            width: number(self.width),
            height: number(self.height),
            steps: number(self.steps),
            guidance: (self.guidance.is_nan() || self.guidance >= 0.0).then_some(self.guidance),
            seed: self.seed,
            rng: self.noise(rng.unwrap_or("torch-cuda"))?,
            max_sequence_length: number(self.max_sequence_length),
            vae_tiling: self.vae_tiling != 0,
            ..Request::default()
        };
        request.cache = cache.map_or(Ok(None), cache_options)?;
        request.preview_every = self.preview.and_then(|_| number(self.preview_every));
        Ok((request, mode.map(str::parse::<Mode>).transpose()?))
    }

    /// The initial latents of a picture of so many rows and columns of tokens; none without.
    ///
    /// # Errors
    /// [`Error::Request`] if these are not as many, or not finite.
    ///
    /// # Safety
    /// `latents` is null or points to `latents_count` numbers.
    pub(super) unsafe fn initial_latents(
        &self,
        [rows, columns]: [usize; 2],
    ) -> Result<Option<Tensor<f32, 2>>> {
        if self.latents.is_null() {
            return Ok(None);
        }
        let (count, tokens) = (self.latents_count, rows * columns);
        // More than any model has: the channels themselves are checked where the model is known.
        let fits = count > 0 && count.is_multiple_of(tokens) && count / tokens <= 1024;
        if !fits {
            let reason = format!(
                "expected as many numbers for each of {rows} x {columns} tokens, found {count} in all"
            );
            return Err(Error::Request { field: "latents", reason });
        }
        let mut values = vec![0.0_f32; count];
        let [from, to] = [self.latents.cast::<u8>(), values.as_mut_ptr().cast::<u8>().cast_const()];
        // SAFETY: the caller's promise; bytes may lie anywhere, and `values` has as many.
        unsafe { std::ptr::copy_nonoverlapping(from, to.cast_mut(), count * size_of::<f32>()) };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let reason = format!("expected finite numbers, found {} at index {at}", values[at]);
            return Err(Error::Request { field: "latents", reason });
        }
        Ok(Some(Tensor::from_host([tokens, count / tokens], values)))
    }

    fn noise(&self, name: &str) -> Result<Rng> {
        let grid = (self.rng_grid > 0).then(|| Grid::of_blocks(self.rng_grid)).transpose()?;
        let cuda = Rng::TorchCuda { grid };
        let all = [cuda, Rng::TorchCpu, Rng::TorchCpuLegacy];
        let found = all.into_iter().find(|rng| rng.to_string() == name);
        let refuse = |field, reason| Err(Error::Request { field, reason });
        match found {
            None => {
                let names = all.map(|rng| rng.to_string()).join(", ");
                refuse("rng", format!("expected one of {names}, found `{name}`"))
            }
            Some(Rng::TorchCpu | Rng::TorchCpuLegacy) if grid.is_some() => {
                refuse("rng_grid", format!("expected 0 for {name}, which has no grid"))
            }
            Some(rng) => Ok(rng),
        }
    }
}

/// A preset's name, or the lines of a TOML file.
fn cache_options(text: &str) -> Result<Option<CacheOptions>> {
    match text.contains('=') {
        true => file::parse(text, Path::new("cache")),
        false => Ok(text.parse::<Preset>()?.options()),
    }
}
