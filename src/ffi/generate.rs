//! One picture, told of while it is made.

use std::ops::ControlFlow;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::ffi::engine::Loaded;
use crate::ffi::engine::flux_rt_engine;
use crate::ffi::engine::with;
use crate::ffi::failure::Failure;
use crate::ffi::panic::caught;
use crate::ffi::picture::flux_rt_picture;
use crate::ffi::request::flux_rt_request;
use crate::ffi::status::flux_rt_status;
use crate::ffi::status::flux_rt_status::FLUX_RT_BUG;
use crate::ffi::status::flux_rt_status::FLUX_RT_BUSY;
use crate::ffi::status::flux_rt_status::FLUX_RT_NULL;
use crate::ffi::status::flux_rt_status::FLUX_RT_OK;
use crate::ffi::structs;
use crate::pipeline::Engine;
use crate::pipeline::Event;
use crate::pipeline::Phase;
use crate::pipeline::Request;
use crate::pipeline::RgbImage;
use crate::pipeline::Settings;

/// What a picture is at, as its progress function is told.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the name in C")]
pub enum flux_rt_phase {
    /// The prompt becomes text states.
    FLUX_RT_PHASE_ENCODE = 0,
    /// What does not depend on the latents.
    FLUX_RT_PHASE_PREPARE = 1,
    /// The steps.
    FLUX_RT_PHASE_DENOISE = 2,
    /// Latents become pixels.
    FLUX_RT_PHASE_DECODE = 3,
    /// The PNG and its metadata. For an engine's first picture the weight files are read once more, for their
    /// digests, and nothing stops that.
    FLUX_RT_PHASE_FINISH = 4,
}

use flux_rt_phase::*;

impl From<Phase> for flux_rt_phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Encode => FLUX_RT_PHASE_ENCODE,
            Phase::Prepare => FLUX_RT_PHASE_PREPARE,
            Phase::Denoise => FLUX_RT_PHASE_DENOISE,
            Phase::Decode => FLUX_RT_PHASE_DECODE,
        }
    }
}

/// Makes a picture, which is to be freed, and sets `*picture` to it; to null if this fails. `FLUX_RT_BUSY` if another
/// thread makes one with this engine, or this is called by the functions of a picture that it makes.
///
/// The work is done on as many threads as the machine has cores, whichever thread calls.
///
/// # Safety
/// `engine` is null or an engine that is not freed; `request` is null or was set by `flux_rt_request_init`; `picture`
/// is null or a place to write to.
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
    unsafe { picture.write_unaligned(std::ptr::null_mut()) };
    if request.is_null() {
        return FLUX_RT_NULL;
    }
    // SAFETY: the caller's promise.
    let made = unsafe { with(engine, |engine| engine.generate(request)) };
    match made {
        None => FLUX_RT_NULL,
        Some(Err(status)) => status,
        Some(Ok(made)) => {
            // SAFETY: the caller's promise.
            unsafe { picture.write_unaligned(Box::into_raw(Box::new(made))) };
            FLUX_RT_OK
        }
    }
}

impl flux_rt_engine {
    /// A picture, or the status, whose message is kept. `request` is not null.
    fn generate(&self, request: *const flux_rt_request) -> Result<flux_rt_picture, flux_rt_status> {
        let mut loaded = match self.loaded.try_lock() {
            Ok(loaded) => loaded,
            Err(TryLockError::WouldBlock) => return Err(FLUX_RT_BUSY),
            // A panic was caught inside, and what it left is marked.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        self.stop.store(false, Ordering::SeqCst);
        let made = caught(|| {
            // SAFETY: what the caller of `flux_rt_generate` promises.
            let request = unsafe { structs::read("request", request) }?;
            self.draw(&mut loaded, &request)
        });
        self.settle(&mut loaded, made)
    }

    /// Keeps the message of what failed; after a panic the model is not used any more.
    fn settle<T>(
        &self,
        loaded: &mut Loaded,
        made: Result<Result<T, Failure>, String>,
    ) -> Result<T, flux_rt_status> {
        match made {
            Ok(made) => made.map_err(|failure| self.fail(failure)),
            Err(message) => {
                let failure = Failure { status: FLUX_RT_BUG, message };
                loaded.give_up(failure.clone());
                Err(self.fail(failure))
            }
        }
    }

    fn draw(
        &self,
        loaded: &mut Loaded,
        asked: &flux_rt_request,
    ) -> Result<flux_rt_picture, Failure> {
        let (engine, name, first) = match loaded {
            Loaded::Model { engine, name, mode } => (engine, name, mode),
            Loaded::Nothing(Failure { status, message }) => {
                let message = format!("there is no model: {message}");
                return Err(Failure { status: *status, message });
            }
        };
        // SAFETY: that texts end with 0 is what the caller of `flux_rt_generate` promises.
        let (mut request, mode) = unsafe { asked.read() }?;
        engine.use_mode(mode.as_ref().unwrap_or(first))?;
        let settings = Settings::new(&request, engine.defaults())?;
        // SAFETY: that there are so many latents is what the caller of `flux_rt_generate` promises.
        request.latents = unsafe { asked.initial_latents(settings.grid()) }?;
        self.watch(engine, name, &request, asked, settings.steps)
    }

    /// Draws and tells of it.
    fn watch(
        &self,
        engine: &mut Engine,
        name: &str,
        request: &Request,
        asked: &flux_rt_request,
        steps: usize,
    ) -> Result<flux_rt_picture, Failure> {
        let mut phase = FLUX_RT_PHASE_ENCODE;
        let go_on = |told: i32| match told != 0 || self.stopped() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let made = engine.generate_with(request, &mut |event| match event {
            Event::Phase(begun) => {
                phase = begun.into();
                let done = if begun == Phase::Decode { steps } else { 0 };
                go_on(asked.tell(phase, done, steps))
            }
            Event::Step { done, steps } => go_on(asked.tell(phase, done, steps)),
            Event::Preview { done, image } => {
                asked.show(done, image);
                go_on(0)
            }
        })?;
        let goes_on = |told| match go_on(told) {
            ControlFlow::Break(()) => Err(Error::Cancelled),
            ControlFlow::Continue(()) => Ok(()),
        };
        goes_on(asked.tell(FLUX_RT_PHASE_FINISH, steps, steps))?;
        let picture = flux_rt_picture::new(engine, name, made)?;
        goes_on(0)?;
        Ok(picture)
    }
}

impl flux_rt_request {
    fn tell(&self, phase: flux_rt_phase, done: usize, steps: usize) -> i32 {
        let [done, steps] = [done, steps].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let phase = phase as i32;
        // SAFETY: a function of the caller's, with what it asked for.
        self.progress.map_or(0, |progress| unsafe { progress(self.user_data, phase, done, steps) })
    }

    fn show(&self, done: usize, image: &RgbImage) {
        let numbers = [image.width, image.height, done];
        let [width, height, done] = numbers.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        if let Some(preview) = self.preview {
            // SAFETY: a function of the caller's, with pixels that are there until it returns.
            unsafe { preview(self.user_data, image.data.as_ptr(), width, height, done) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::flux_rt_engine_free;
    use crate::ffi::flux_rt_engine_new;
    use crate::ffi::flux_rt_options;

    /// A panic costs the engine its model, and every later call says why in the same words.
    #[test]
    fn after_a_panic_an_engine_draws_no_more() {
        let model = c"tests/goldens/dev".as_ptr();
        let options = flux_rt_options { model, device: c"cpu".as_ptr(), ..Default::default() };
        let mut engine = std::ptr::null_mut();
        // SAFETY: both are there.
        assert_eq!(unsafe { flux_rt_engine_new(&raw const options, &raw mut engine) }, FLUX_RT_OK);
        let request = flux_rt_request { steps: 1, width: 16, height: 16, ..Default::default() };
        let draw = || {
            // SAFETY: the engine is not freed yet.
            let drawn = unsafe { with(engine, |engine| engine.generate(&raw const request)) };
            drawn.unwrap().map(drop)
        };
        assert_eq!(draw(), Ok(()));
        let panicked = caught(|| -> Result<(), Failure> { panic!("a list of {} blocks", 0) });
        // SAFETY: the engine is not freed yet.
        let settled = unsafe {
            with(engine, |engine| engine.settle(&mut engine.loaded.lock().unwrap(), panicked))
        };
        assert_eq!(settled, Some(Err(FLUX_RT_BUG)));
        for _ in 0..3 {
            assert_eq!(draw(), Err(FLUX_RT_BUG));
            // SAFETY: the engine is not freed yet.
            let message = unsafe { with(engine, |engine| engine.message().clone()) };
            assert_eq!(message.unwrap(), "there is no model: a list of 0 blocks");
        }
        // SAFETY: it is freed once.
        unsafe { flux_rt_engine_free(engine) };
    }
}
