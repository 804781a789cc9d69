//! A loaded model behind a pointer.

use std::ffi::CString;
use std::ffi::c_char;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::TryLockError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::elastic::Mode;
use crate::error::Error;
use crate::error::Result;
use crate::ffi::options::flux_rt_options;
use crate::ffi::panic::caught;
use crate::ffi::picture::flux_rt_picture;
use crate::ffi::request::flux_rt_request;
use crate::ffi::status::flux_rt_status;
use crate::ffi::status::flux_rt_status::FLUX_RT_BUG;
use crate::ffi::status::flux_rt_status::FLUX_RT_BUSY;
use crate::ffi::status::flux_rt_status::FLUX_RT_NULL;
use crate::ffi::status::flux_rt_status::FLUX_RT_OK;
use crate::ffi::status::flux_rt_status::FLUX_RT_SIZE;
use crate::ffi::text;
use crate::pipeline::Engine;
use crate::pipeline::Event;
use crate::pipeline::Phase;
use crate::pipeline::Request;

/// A loaded model, or the message why there is none. One engine makes many pictures, one at a time; other threads
/// may stop it and read its message.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in C")]
pub struct flux_rt_engine {
    /// Who holds it makes a picture.
    loaded: Mutex<Loaded>,
    /// Whether the picture in the making is to stop.
    stop: AtomicBool,
    /// Of the last function that failed.
    message: Mutex<String>,
    /// What computes; empty without a model.
    device: CString,
}

/// What an engine has.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each engine")]
enum Loaded {
    Model {
        engine: Engine,
        /// As the caller calls it.
        name: String,
        /// Of a request without one.
        mode: Mode,
    },
    /// Why there is none.
    Nothing(flux_rt_status),
}

/// Loads a model. `*engine` is set to a handle that is to be freed also if this fails, so that its message can be
/// read; it stays as it is only if a pointer is null.
///
/// # Safety
/// `options` is null or points to a struct whose first field is its size; `engine` is null or a place to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_engine_new(
    options: *const flux_rt_options,
    engine: *mut *mut flux_rt_engine,
) -> flux_rt_status {
    if options.is_null() || engine.is_null() {
        return FLUX_RT_NULL;
    }
    // SAFETY: the caller's promise; the size is the first field in every version.
    let size = unsafe { options.cast::<usize>().read() };
    let made = match size == size_of::<flux_rt_options>() {
        // SAFETY: the caller's promise, and the size is this struct's.
        true => caught(|| load(&unsafe { options.read() })),
        false => Ok(Err(Failure {
            status: FLUX_RT_SIZE,
            message: format!(
                "options: expected a size of {}, found {size}: another version of the library",
                size_of::<flux_rt_options>()
            ),
        })),
    };
    let made = made.unwrap_or_else(|message| Err(Failure { status: FLUX_RT_BUG, message }));
    let (loaded, status, message) = match made {
        Ok(loaded) => (loaded, FLUX_RT_OK, String::new()),
        Err(Failure { status, message }) => (Loaded::Nothing(status), status, message),
    };
    let device = match &loaded {
        Loaded::Model { engine, .. } => text::owned(&engine.device_name()),
        Loaded::Nothing(_) => CString::default(),
    };
    let (loaded, message) = (Mutex::new(loaded), Mutex::new(message));
    let made = flux_rt_engine { loaded, stop: AtomicBool::new(false), message, device };
    // SAFETY: the caller's promise.
    unsafe { engine.write(Box::into_raw(Box::new(made))) };
    status
}

/// A status and its message.
struct Failure {
    status: flux_rt_status,
    message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Causes are part of the message, as on the command line.
        let causes =
            std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        Self { status: flux_rt_status::from(&error), message: format!("{error}{causes}") }
    }
}

fn load(options: &flux_rt_options) -> std::result::Result<Loaded, Failure> {
    // SAFETY: that texts end with 0 is what the caller of `flux_rt_engine_new` promises.
    let (builder, name, modes) = unsafe { options.builder() }?;
    let engine = builder.build()?;
    if let Some(log) = options.log {
        for note in engine.notes() {
            let note = text::owned(&note);
            // SAFETY: a function of the caller's, with what it asked for and a text that ends with 0.
            unsafe { log(options.user_data, note.as_ptr()) };
        }
    }
    let mode = modes.into_iter().next().unwrap_or_default();
    Ok(Loaded::Model { engine, name, mode })
}

/// Makes a picture, which is to be freed, and sets `*picture` to it; to null if this fails.
///
/// # Safety
/// `engine` is null or an engine that is not freed; `request` is null or points to a struct whose first field is
/// its size; `picture` is null or a place to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_generate(
    engine: *mut flux_rt_engine,
    request: *const flux_rt_request,
    picture: *mut *mut flux_rt_picture,
) -> flux_rt_status {
    if picture.is_null() {
        return FLUX_RT_NULL;
    }
    // SAFETY: the caller's promise.
    unsafe { picture.write(std::ptr::null_mut()) };
    // SAFETY: the caller's promise.
    let Some(engine) = (unsafe { engine.as_ref() }) else { return FLUX_RT_NULL };
    if request.is_null() {
        return FLUX_RT_NULL;
    }
    let mut loaded = match engine.loaded.try_lock() {
        Ok(loaded) => loaded,
        Err(TryLockError::WouldBlock) => return FLUX_RT_BUSY,
        // A panic was caught inside, and what it left is marked.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
    };
    // SAFETY: the caller's promise; the size is the first field in every version.
    let size = unsafe { request.cast::<usize>().read() };
    if size != size_of::<flux_rt_request>() {
        let expected = size_of::<flux_rt_request>();
        let message = format!(
            "request: expected a size of {expected}, found {size}: another version of the library"
        );
        return engine.fail(Failure { status: FLUX_RT_SIZE, message });
    }
    // SAFETY: the caller's promise, and the size is this struct's.
    let request = unsafe { request.read() };
    match caught(|| engine.generate(&mut loaded, &request)) {
        Ok(Ok(made)) => {
            // SAFETY: the caller's promise.
            unsafe { picture.write(Box::into_raw(Box::new(made))) };
            FLUX_RT_OK
        }
        Ok(Err(failure)) => engine.fail(failure),
        Err(message) => {
            *loaded = Loaded::Nothing(FLUX_RT_BUG);
            engine.fail(Failure { status: FLUX_RT_BUG, message })
        }
    }
}

impl flux_rt_engine {
    fn fail(&self, Failure { status, message }: Failure) -> flux_rt_status {
        *self.message() = message;
        status
    }

    fn message(&self) -> MutexGuard<'_, String> {
        self.message.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generate(
        &self,
        loaded: &mut Loaded,
        asked: &flux_rt_request,
    ) -> std::result::Result<flux_rt_picture, Failure> {
        self.stop.store(false, Ordering::SeqCst);
        let (engine, name, first) = match loaded {
            Loaded::Model { engine, name, mode } => (engine, name, mode),
            Loaded::Nothing(status) => {
                let message = format!("there is no model: {}", self.message().as_str());
                return Err(Failure { status: *status, message });
            }
        };
        // SAFETY: that texts end with 0 is what the caller of `flux_rt_generate` promises.
        let (request, mode) = unsafe { asked.read() }?;
        engine.use_mode(mode.as_ref().unwrap_or(first))?;
        Ok(self.draw(engine, name, &request, asked)?)
    }

    fn draw(
        &self,
        engine: &mut Engine,
        name: &str,
        request: &Request,
        asked: &flux_rt_request,
    ) -> Result<flux_rt_picture> {
        let mut phase = 0;
        let made = engine.generate_with(request, &mut |event| {
            let told = match event {
                Event::Phase(begun) => {
                    phase = number(begun);
                    asked.tell(phase, 0, 0)
                }
                Event::Step { done, steps } => asked.tell(phase, done, steps),
                Event::Preview { done, image } => {
                    asked.show(done, image);
                    0
                }
            };
            match told != 0 || self.stop.load(Ordering::SeqCst) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        let metadata = engine.metadata(name, None, &made)?;
        let cache_log = made.cache_record().map(|record| serde_json::to_string(&record));
        let cache_log = cache_log.transpose().map_err(|error| Error::Request {
            field: "cache",
            reason: format!("expected a log of numbers and texts that JSON has: {error}"),
        })?;
        Ok(flux_rt_picture {
            png: metadata.encode(&made.image)?,
            metadata: text::owned(&metadata.to_json()?),
            cache_log: cache_log.as_deref().map(text::owned),
            timings: made.timings,
            image: made.image,
        })
    }
}

/// A phase as C has it.
fn number(phase: Phase) -> i32 {
    match phase {
        Phase::Encode => 0,
        Phase::Prepare => 1,
        Phase::Denoise => 2,
        Phase::Decode => 3,
    }
}

impl flux_rt_request {
    fn tell(&self, phase: i32, done: usize, steps: usize) -> i32 {
        let [done, steps] = [done, steps].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        // SAFETY: a function of the caller's, with what it asked for.
        self.progress.map_or(0, |progress| unsafe { progress(self.user_data, phase, done, steps) })
    }

    fn show(&self, done: usize, image: &crate::pipeline::RgbImage) {
        let numbers = [image.width, image.height, done];
        let [width, height, done] = numbers.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        if let Some(preview) = self.preview {
            // SAFETY: a function of the caller's, with pixels that are there until it returns.
            unsafe { preview(self.user_data, image.data.as_ptr(), width, height, done) };
        }
    }
}

/// Stops the picture that the engine makes, after the present step; nothing happens if it makes none. May be called
/// from any thread.
///
/// # Safety
/// `engine` is null or an engine that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_cancel(engine: *const flux_rt_engine) {
    // SAFETY: the caller's promise.
    if let Some(engine) = unsafe { engine.as_ref() } {
        engine.stop.store(true, Ordering::SeqCst);
    }
}

/// Copies the message of the last function that failed into a buffer of the caller's, cut where it does not fit, and
/// always ended with 0. Returns the bytes of the whole message without the 0. May be called from any thread.
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
    let message = unsafe { engine.as_ref() }.map(|engine| engine.message().clone());
    // SAFETY: the caller's promise.
    unsafe { text::copy(message.as_deref().unwrap_or("no engine"), buffer, size) }
}

/// What computes: `cpu` or the GPU's name; empty if no model was loaded. The text is the engine's; null for null.
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
/// # Safety
/// `engine` is null or an engine that is not freed, and that no thread uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_rt_engine_free(engine: *mut flux_rt_engine) {
    if engine.is_null() {
        return;
    }
    // SAFETY: the caller's promise; engines are made by `Box::into_raw`.
    let engine = unsafe { Box::from_raw(engine) };
    // Nobody is left to tell of a panic.
    let _ = caught(move || drop(engine));
}

/// The version of the library, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn flux_rt_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
