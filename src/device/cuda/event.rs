//! A point in the stream that the host can ask for, wait for, and measure from.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver_error;
use crate::device::cuda::make_current;
use crate::error::Result;

/// An event of the driver.
#[derive(Debug)]
pub struct CudaEvent {
    cuda: Arc<Cuda>,
    handle: sys::CUevent,
}

// SAFETY: the handle is a plain number to the driver, which may be called from any thread.
unsafe impl Send for CudaEvent {}
// SAFETY: as above.
unsafe impl Sync for CudaEvent {}

impl CudaEvent {
    /// An event that takes the time when the stream passes it.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn new(cuda: &Arc<Cuda>) -> Result<Self> {
        make_current(cuda.context)?;
        let handle = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)
            .map_err(|error| driver_error("cuEventCreate", error))?;
        Ok(Self { cuda: Arc::clone(cuda), handle })
    }

    /// Puts the event behind all work so far.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn record(&self) -> Result<()> {
        make_current(self.cuda.context)?;
        // SAFETY: event and stream live as long as `self`.
        unsafe { result::event::record(self.handle, self.cuda.stream()) }
            .map_err(|error| driver_error("cuEventRecord", error))
    }

    /// Whether the stream has passed the event; true if it was never recorded.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for what went wrong in the work before it.
    pub fn is_done(&self) -> Result<bool> {
        make_current(self.cuda.context)?;
        // SAFETY: the event lives as long as `self`.
        match unsafe { result::event::query(self.handle) } {
            Ok(()) => Ok(true),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            Err(error) => Err(driver_error("cuEventQuery", error)),
        }
    }

    /// Waits until the stream has passed the event.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for what went wrong in the work before it.
    pub fn wait(&self) -> Result<()> {
        make_current(self.cuda.context)?;
        // SAFETY: the event lives as long as `self`.
        unsafe { result::event::synchronize(self.handle) }
            .map_err(|error| driver_error("cuEventSynchronize", error))
    }

    /// Milliseconds on the GPU from `start` to this event; both have been passed.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn ms_since(&self, start: &Self) -> Result<f32> {
        make_current(self.cuda.context)?;
        // SAFETY: both events live as long as their owners.
        unsafe { result::event::elapsed(start.handle, self.handle) }
            .map_err(|error| driver_error("cuEventElapsedTime", error))
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        if make_current(self.cuda.context).is_ok() {
            // SAFETY: made in `new` and not used any more.
            let _ = unsafe { result::event::destroy(self.handle) };
        }
    }
}
