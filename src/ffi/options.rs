//! How an engine is made.

use std::ffi::c_char;
use std::ffi::c_void;
use std::path::PathBuf;

use crate::elastic::Mode;
use crate::error::Error;
use crate::error::Result;
use crate::ffi::engine::Loaded;
use crate::ffi::failure::Failure;
use crate::ffi::request::flux_rt_request;
use crate::ffi::status::flux_rt_status;
use crate::ffi::structs;
use crate::ffi::text;
use crate::model::source::ModelSource;
use crate::pipeline::DType;
use crate::pipeline::DeviceChoice;
use crate::pipeline::Engine;
use crate::pipeline::EngineBuilder;

/// How an engine is made. Set all of it with `flux_rt_options_init`, then change what is to be otherwise. Texts
/// are UTF-8, and are not needed any more when `flux_rt_engine_new` returns. `log` must return: no C++ exception and
/// no `longjmp` may leave it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flux_rt_options {
    /// The bytes of this struct, set by `flux_rt_options_init`.
    pub size: usize,
    /// `demo`, a folder, a single file or a Hugging Face id. Null is `demo`.
    pub model: *const c_char,
    /// Another transformer than the model's: a safetensors file or a folder of diffusers. Null is the model's own.
    pub transformer: *const c_char,
    /// Another VAE, likewise.
    pub vae: *const c_char,
    /// Another CLIP, likewise.
    pub text_encoder: *const c_char,
    /// Another T5, likewise.
    pub text_encoder_2: *const c_char,
    /// A folder with another tokenizer for CLIP.
    pub tokenizer: *const c_char,
    /// A folder with another tokenizer for T5.
    pub tokenizer_2: *const c_char,
    /// `auto`, `cpu`, `cuda` or `cuda:N`. Null is `auto`.
    pub device: *const c_char,
    /// `auto`, `f32` or `bf16`. Null is `auto`.
    pub dtype: *const c_char,
    /// The modes that pictures may be made in, separated by commas: `original`, `XL`, `L`, `M`, `S`, paths of
    /// plan files ending in `.json`. The first is that of a request without one. Null is `XL`.
    pub modes: *const c_char,
    /// Bytes of GPU memory to take at most; 0 is what is free.
    pub max_vram: u64,
    /// A picture like those to come, set by `flux_rt_request_init`: whether the GPU's memory holds the model and such
    /// a picture is told before the model is loaded, and how much of the model waits in host memory is chosen by it.
    /// Its functions are not called. Null is a picture of the model's default size.
    pub expected: *const flux_rt_request,
    /// Not 0: with the kernels that every card runs, where there are better ones.
    pub portable: i32,
    /// Called with notes about how the model is run in each of the modes, a sentence each, on the thread that calls
    /// `flux_rt_engine_new`. May be null.
    pub log: Option<unsafe extern "C" fn(user_data: *mut c_void, text: *const c_char)>,
    /// Handed to `log`.
    pub user_data: *mut c_void,
}

impl Default for flux_rt_options {
    fn default() -> Self {
        Self {
            size: size_of::<Self>(),
            model: std::ptr::null(),
            transformer: std::ptr::null(),
            vae: std::ptr::null(),
            text_encoder: std::ptr::null(),
            text_encoder_2: std::ptr::null(),
            tokenizer: std::ptr::null(),
            tokenizer_2: std::ptr::null(),
            device: std::ptr::null(),
            dtype: std::ptr::null(),
            modes: std::ptr::null(),
            max_vram: 0,
            expected: std::ptr::null(),
            portable: 0,
            log: None,
            user_data: std::ptr::null_mut(),
        }
    }
}

/// Sets every field to its default. `size` is `sizeof (flux_rt_options)`, and `abi_version` is `FLUX_RT_ABI_VERSION`;
/// with others it is `FLUX_RT_VERSION`, and no function will take the struct.
///
/// # Safety
/// `options` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_options_init(
    options: *mut flux_rt_options,
    size: usize,
    abi_version: u32,
) -> flux_rt_status {
    // SAFETY: the caller's promise.
    unsafe { structs::init(options, size, abi_version) }
}

impl flux_rt_options {
    /// Loads the model, and tells `log` of it.
    ///
    /// # Errors
    /// Whatever stops it.
    ///
    /// # Safety
    /// Texts are null or end with 0; `expected` is null or begins with its size.
    pub(super) unsafe fn load(&self) -> Result<Loaded, Failure> {
        // SAFETY: the caller's promise.
        let (builder, name, modes) = unsafe { self.builder() }?;
        let mut engine = builder.build()?;
        let mut notes: Vec<String> = Vec::new();
        // The first comes last: it is that of a request without a mode.
        for mode in modes.iter().rev() {
            engine.use_mode(mode)?;
            let before = notes.len();
            notes.extend(engine.notes());
            notes.rotate_left(before);
        }
        for (at, note) in notes.iter().enumerate() {
            if !notes[..at].contains(note) {
                self.tell(note);
            }
        }
        let mode = modes.into_iter().next().unwrap_or_default();
        Ok(Loaded::Model { engine, name, mode })
    }

    fn tell(&self, note: &str) {
        let note = text::owned(note);
        if let Some(log) = self.log {
            // SAFETY: a function of the caller's, with what it asked for and a text that ends with 0.
            unsafe { log(self.user_data, note.as_ptr()) };
        }
    }

    /// The model and what replaces parts of it.
    ///
    /// # Safety
    /// Texts are null or end with 0.
    unsafe fn source(&self) -> Result<ModelSource> {
        let path = |field, text| {
            // SAFETY: the caller's promise.
            let path = unsafe { text::read(field, text) };
            path.map(|path| path.map(PathBuf::from))
        };
        // SAFETY: the caller's promise.
        let model = unsafe { text::read("model", self.model) }?.unwrap_or("demo").to_owned();
        Ok(ModelSource {
            model,
            transformer: path("transformer", self.transformer)?,
            vae: path("vae", self.vae)?,
            text_encoder: path("text-encoder", self.text_encoder)?,
            text_encoder_2: path("text-encoder-2", self.text_encoder_2)?,
            tokenizer: path("tokenizer", self.tokenizer)?,
            tokenizer_2: path("tokenizer-2", self.tokenizer_2)?,
        })
    }

    /// What is to be built, and the modes, of which there is at least one.
    ///
    /// # Errors
    /// Naming the field.
    ///
    /// # Safety
    /// Texts are null or end with 0; `expected` is null or begins with its size.
    unsafe fn builder(&self) -> Result<(EngineBuilder, String, Vec<Mode>), Failure> {
        // SAFETY: the caller's promise, here and below.
        let source = unsafe { self.source() }?;
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
                return Err(Error::Request { field: "dtype", reason }.into());
            }
        };
        let modes = modes.split(',').map(|name| name.trim().parse::<Mode>());
        let modes = modes.collect::<Result<Vec<Mode>>>()?;
        let [first, more @ ..] = modes.as_slice() else {
            let reason = "expected at least one mode, found none".to_owned();
            return Err(Error::Request { field: "modes", reason }.into());
        };
        let limit = match self.max_vram {
            0 => None,
            bytes => Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        let name = source.model.clone();
        let mut builder = Engine::builder()
            .source(source)
            .device(device.parse::<DeviceChoice>()?)
            .dtype(dtype)
            .mode(first.clone())
            .more_modes(more.iter().cloned())
            .max_vram(limit)
            .portable(self.portable != 0);
        if !self.expected.is_null() {
            // SAFETY: see above.
            let expected = unsafe { structs::read("expected", self.expected) }?;
            // SAFETY: see above.
            let (expected, _) = unsafe { expected.read() }?;
            builder = builder.expecting(expected);
        }
        Ok((builder, name, modes))
    }
}
