//! A loaded model behind a pointer, which is counted: whoever frees an engine gives up the caller's share, and a call
//! that runs has one of its own.

use std::ffi::CString;
use std::ffi::c_char;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::elastic::Mode;
use crate::ffi::failure::Failure;
use crate::ffi::options::flux_rt_options;
use crate::ffi::panic::caught;
use crate::ffi::picture::flux_rt_picture;
use crate::ffi::status::flux_rt_status;
use crate::ffi::status::flux_rt_status::FLUX_RT_BUG;
use crate::ffi::status::flux_rt_status::FLUX_RT_NULL;
use crate::ffi::status::flux_rt_status::FLUX_RT_OK;
use crate::ffi::structs;
use crate::ffi::text;
use crate::pipeline::Defaults;
use crate::pipeline::Engine;

/// A loaded model, or the reason why there is none. One engine makes many pictures, one at a time, on any thread;
/// other threads may stop it, read its message and free it meanwhile.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in C")]
pub struct flux_rt_engine {
    /// Who holds it makes a picture.
    pub(super) loaded: Mutex<Loaded>,
    /// Whether the picture in the making is to stop.
    pub(super) stop: AtomicBool,
    /// Whether the caller has given it up: no picture is wanted any more.
    freed: AtomicBool,
    /// Of the last function that failed.
    message: Mutex<String>,
    /// What computes; empty without a model.
    device: CString,
    /// Those of the model, or why there is none.
    defaults: Result<flux_rt_defaults, flux_rt_status>,
}

/// What an engine has.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each engine")]
pub(super) enum Loaded {
    Model {
        engine: Engine,
        /// As the caller calls it.
        name: String,
        /// Of a request without one.
        mode: Mode,
    },
    /// Why there is none.
    Nothing(Failure),
}

impl Loaded {
    /// Gives up the model, which is of no use any more.
    pub(super) fn give_up(&mut self, failure: Failure) {
        let given_up = std::mem::replace(self, Self::Nothing(failure));
        // What a panic has left may panic again.
        let _ = caught(move || drop(given_up));
    }
}

/// Threads share engines and pictures.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<flux_rt_engine>();
    shared::<flux_rt_picture>();
};

impl flux_rt_engine {
    fn new(loaded: Loaded) -> Self {
        let (device, defaults, message) = match &loaded {
            Loaded::Model { engine, .. } => {
                (text::owned(&engine.device_name()), Ok(engine.defaults().into()), String::new())
            }
            Loaded::Nothing(failure) => {
                (CString::default(), Err(failure.status), failure.message.clone())
            }
        };
        let (loaded, message) = (Mutex::new(loaded), Mutex::new(message));
        let [stop, freed] = [false; 2].map(AtomicBool::new);
        Self { loaded, stop, freed, message, device, defaults }
    }

    /// Whether the picture in the making is to stop.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.freed.load(Ordering::SeqCst)
    }

    /// Keeps the message.
    pub(super) fn fail(&self, Failure { status, message }: Failure) -> flux_rt_status {
        *self.message() = message;
        status
    }

    pub(super) fn message(&self) -> MutexGuard<'_, String> {
        self.message.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `work` with an engine that stays until it returns, whoever frees it meanwhile; none for null.
///
/// # Safety
/// `engine` is null or an engine that is not freed when this begins.
pub(super) unsafe fn with<T>(
    engine: *const flux_rt_engine,
    work: impl FnOnce(&flux_rt_engine) -> T,
) -> Option<T> {
    if engine.is_null() {
        return None;
    }
    // SAFETY: engines are made by `Arc::into_raw`; the caller's promise is that one share is there.
    unsafe { Arc::increment_strong_count(engine) };
    // SAFETY: as above; the share is the one just made.
    let engine = unsafe { Arc::from_raw(engine) };
    let answer = work(&engine);
    give_up(engine);
    Some(answer)
}

/// Gives up a share of an engine, and with the last one the engine.
fn give_up(engine: Arc<flux_rt_engine>) {
    // Nobody is left to tell of a panic.
    let _ = caught(move || drop(engine));
}

/// What a model draws where a request says nothing.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct flux_rt_defaults {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Denoising steps.
    pub steps: u32,
    /// T5 tokens of the prompt that are read, padding included.
    pub max_sequence_length: u32,
    /// How closely the picture follows the prompt; below 0 for a model that cannot be told.
    pub guidance: f32,
}

impl From<&Defaults> for flux_rt_defaults {
    fn from(defaults: &Defaults) -> Self {
        let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            width: number(defaults.width),
            height: number(defaults.height),
            steps: number(defaults.steps),
            max_sequence_length: number(defaults.max_sequence_length),
            guidance: defaults.guidance.unwrap_or(-1.0),
        }
    }
}

/// Loads a model; null options are the defaults. `*engine` is set to a handle that is to be freed also if this
/// fails, so that its message can be read and `flux_rt_generate` says the same; it is `FLUX_RT_NULL` if `engine` is.
///
/// Weight files are mapped into memory. If another program cuts one while it is read, in the very moment of a read,
/// the system kills the process by SIGBUS; before and after that it is `FLUX_RT_MODEL`.
///
/// # Safety
/// `options` is null or was set by `flux_rt_options_init`; `engine` is null or a place to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_engine_new(
    options: *const flux_rt_options,
    engine: *mut *mut flux_rt_engine,
) -> flux_rt_status {
    if engine.is_null() {
        return FLUX_RT_NULL;
    }
    let made = caught(|| {
        let options = match options.is_null() {
            true => flux_rt_options::default(),
            // SAFETY: the caller's promise.
            false => unsafe { structs::read("options", options) }?,
        };
        // SAFETY: that texts end with 0 is the caller's promise.
        unsafe { options.load() }
    });
    let made = made.unwrap_or_else(|message| Err(Failure { status: FLUX_RT_BUG, message }));
    let status = made.as_ref().err().map_or(FLUX_RT_OK, |failure| failure.status);
    let made = flux_rt_engine::new(made.unwrap_or_else(Loaded::Nothing));
    // SAFETY: the caller's promise.
    unsafe { engine.write_unaligned(Arc::into_raw(Arc::new(made)).cast_mut()) };
    status
}

/// What the model draws where a request says nothing. `size` is `sizeof (flux_rt_defaults)`. Without a model, why
/// there is none; then nothing is written. May be called from any thread, also while a picture is made.
///
/// # Safety
/// `engine` is null or an engine that is not freed; `defaults` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_engine_defaults(
    engine: *const flux_rt_engine,
    defaults: *mut flux_rt_defaults,
    size: usize,
) -> flux_rt_status {
    // SAFETY: the caller's promise.
    let found = unsafe { with(engine, |engine| engine.defaults) };
    match found {
        None => FLUX_RT_NULL,
        Some(Err(status)) => status,
        // SAFETY: the caller's promise.
        Some(Ok(found)) => unsafe { structs::give(&found, defaults, size) },
    }
}

/// Stops the picture that the engine makes, after the present step: `flux_rt_generate` returns
/// `FLUX_RT_CANCELLED`. May be called from any thread.
///
/// If the engine makes no picture, nothing happens, and the next one is not stopped. Who cannot know whether a
/// picture has begun returns something else than 0 from its progress function instead.
///
/// # Safety
/// `engine` is null or an engine that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_cancel(engine: *const flux_rt_engine) {
    // SAFETY: the caller's promise.
    let _ = unsafe { with(engine, |engine| engine.stop.store(true, Ordering::SeqCst)) };
}

/// Copies the engine's message into a buffer of the caller's, cut where it does not fit, and always ended with 0.
/// Returns the bytes of the whole message without the 0. May be called from any thread.
///
/// The message says why the last `flux_rt_engine_new` or `flux_rt_generate` of this engine failed that failed. It is
/// empty before, and success leaves it as it is; so do `FLUX_RT_NULL`, `FLUX_RT_BUSY` and all other functions.
///
/// # Safety
/// `engine` is null or an engine that is not freed; `buffer` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_engine_message(
    engine: *const flux_rt_engine,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: the caller's promise.
    let message = unsafe { with(engine, |engine| engine.message().clone()) };
    // SAFETY: the caller's promise.
    unsafe { text::copy(message.as_deref().unwrap_or("no engine"), buffer, size) }
}

/// What computes: `cpu` or the GPU's name; empty if no model was loaded. The text is the engine's and is there until
/// it is freed; null for null.
///
/// # Safety
/// `engine` is null or an engine that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_engine_device(engine: *const flux_rt_engine) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { engine.as_ref() }.map_or(std::ptr::null(), |engine| engine.device.as_ptr())
}

/// Frees an engine; null is allowed. Pictures stay.
///
/// An engine may be freed while another thread makes a picture with it, and by the picture's own progress and
/// preview functions: the picture stops as `flux_rt_cancel` would stop it, and its memory is given back before
/// `flux_rt_generate` returns. No other call may begin with an engine that is freed.
///
/// # Safety
/// `engine` is null or an engine that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_engine_free(engine: *mut flux_rt_engine) {
    if engine.is_null() {
        return;
    }
    // SAFETY: engines are made by `Arc::into_raw`, and the caller's share is given up once.
    let engine = unsafe { Arc::from_raw(engine.cast_const()) };
    engine.freed.store(true, Ordering::SeqCst);
    give_up(engine);
}

/// The version of the library, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn flux_rt_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
