//! How an engine is made.

use std::ffi::c_char;
use std::ffi::c_void;

use crate::elastic::Mode;
use crate::error::Error;
use crate::error::Result;
use crate::ffi::status::flux_rt_status;
use crate::ffi::status::flux_rt_status::FLUX_RT_NULL;
use crate::ffi::status::flux_rt_status::FLUX_RT_OK;
use crate::ffi::status::flux_rt_status::FLUX_RT_SIZE;
use crate::ffi::text;
use crate::pipeline::DType;
use crate::pipeline::DeviceChoice;
use crate::pipeline::Engine;
use crate::pipeline::EngineBuilder;

/// How an engine is made. Set all of it with `flux_rt_options_init`, then change what is to be otherwise. Texts
/// are UTF-8, and are not needed any more when `flux_rt_engine_new` returns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flux_rt_options {
    /// The bytes of this struct, set by `flux_rt_options_init`.
    pub size: usize,
    /// `demo`, a folder, a single file or a Hugging Face id. Null is `demo`.
    pub model: *const c_char,
    /// `auto`, `cpu`, `cuda` or `cuda:N`. Null is `auto`.
    pub device: *const c_char,
    /// `auto`, `f32` or `bf16`. Null is `auto`.
    pub dtype: *const c_char,
    /// The modes that pictures may be made in, separated by commas: `original`, `XL`, `L`, `M`, `S`, paths of
    /// plan files ending in `.json`. The first is that of a request without one. Null is `XL`.
    pub modes: *const c_char,
    /// Bytes of GPU memory to take at most; 0 is what is free.
    pub max_vram: u64,
    /// Not 0: with the kernels that every card runs, where there are better ones.
    pub portable: i32,
    /// Called with notes about how the model is run, on the thread that calls `flux_rt_engine_new`. May be
    /// null.
    pub log: Option<unsafe extern "C" fn(user_data: *mut c_void, text: *const c_char)>,
    /// Handed to `log`.
    pub user_data: *mut c_void,
}

impl Default for flux_rt_options {
    fn default() -> Self {
        Self {
            size: size_of::<Self>(),
            model: std::ptr::null(),
            device: std::ptr::null(),
            dtype: std::ptr::null(),
            modes: std::ptr::null(),
            max_vram: 0,
            portable: 0,
            log: None,
            user_data: std::ptr::null_mut(),
        }
    }
}

/// Sets every field to its default. `size` is `sizeof (flux_rt_options)`.
///
/// # Safety
/// `options` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_options_init(
    options: *mut flux_rt_options,
    size: usize,
) -> flux_rt_status {
    if options.is_null() {
        return FLUX_RT_NULL;
    }
    if size != size_of::<flux_rt_options>() {
        return FLUX_RT_SIZE;
    }
    // SAFETY: the caller's promise, and the size is this struct's.
    unsafe { options.write(flux_rt_options::default()) };
    FLUX_RT_OK
}

impl flux_rt_options {
    /// What is to be built, and the modes, of which there is at least one.
    ///
    /// # Errors
    /// [`Error::Request`] naming the field.
    ///
    /// # Safety
    /// Texts are null or end with 0.
    pub(super) unsafe fn builder(&self) -> Result<(EngineBuilder, String, Vec<Mode>)> {
        // SAFETY: the caller's promise, here and below.
        let model = unsafe { text::read("model", self.model) }?.unwrap_or("demo");
        // SAFETY: see above.
        let device = unsafe { text::read("device", self.device) }?.unwrap_or("auto");
        // SAFETY: see above.
        let dtype = unsafe { text::read("dtype", self.dtype) }?.unwrap_or("auto");
        // SAFETY: see above.
        let modes = unsafe { text::read("modes", self.modes) }?.unwrap_or("XL");
        let dtype = match dtype {
            "auto" => DType::Auto,
            "f32" => DType::F32,
            "bf16" => DType::Bf16,
            other => {
                let reason = format!("expected auto, f32 or bf16, found `{other}`");
                return Err(Error::Request { field: "dtype", reason });
            }
        };
        let modes = modes.split(',').map(|name| name.trim().parse::<Mode>());
        let modes = modes.collect::<Result<Vec<Mode>>>()?;
        let [first, more @ ..] = modes.as_slice() else {
            let reason = "expected at least one mode, found none".to_owned();
            return Err(Error::Request { field: "modes", reason });
        };
        let limit = match self.max_vram {
            0 => None,
            bytes => Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        let builder = Engine::builder()
            .model(model)
            .device(device.parse::<DeviceChoice>()?)
            .dtype(dtype)
            .mode(first.clone())
            .more_modes(more.iter().cloned())
            .max_vram(limit)
            .portable(self.portable != 0);
        Ok((builder, model.to_owned(), modes))
    }
}
