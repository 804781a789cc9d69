//! A point in the stream that the host can ask for, wait for, and measure from.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver::Driver;
use crate::device::cuda::driver::call;
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

impl Driver {
    /// A new event of the current context.
    pub(super) fn event(&self, flags: sys::CUevent_flags) -> Result<sys::CUevent> {
        let mut event = ptr::null_mut();
        // SAFETY: writes one handle; whoever called sees to its end.
        unsafe { call!(self, cuEventCreate(&mut event, flags as u32)) }?;
        Ok(event)
    }
}

impl CudaEvent {
    /// An event that takes the time when the stream passes it.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn new(cuda: &Arc<Cuda>) -> Result<Self> {
        cuda.make_current()?;
        let handle = cuda.driver.event(sys::CUevent_flags::CU_EVENT_DEFAULT)?;
        Ok(Self { cuda: Arc::clone(cuda), handle })
    }

    /// Puts the event behind all work so far.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn record(&self) -> Result<()> {
        self.cuda.make_current()?;
        // SAFETY: event and stream live as long as `self`.
        unsafe { call!(self.cuda.driver, cuEventRecord(self.handle, self.cuda.stream())) }
    }

    /// Whether the stream has passed the event; true if it was never recorded.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for what went wrong in the work before it.
    pub fn is_done(&self) -> Result<bool> {
        self.cuda.make_current()?;
        // SAFETY: the event lives as long as `self`.
        unsafe { call!(self.cuda.driver, cuEventQuery(self.handle), CUDA_ERROR_NOT_READY) }
    }

    /// Waits until the stream has passed the event.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for what went wrong in the work before it.
    pub fn wait(&self) -> Result<()> {
        self.cuda.make_current()?;
        // SAFETY: the event lives as long as `self`.
        unsafe { call!(self.cuda.driver, cuEventSynchronize(self.handle)) }
    }

    /// Milliseconds on the GPU from `start` to this event; both have been passed.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn ms_since(&self, start: &Self) -> Result<f32> {
        self.cuda.make_current()?;
        let mut ms = 0.0;
        // SAFETY: both events live as long as their owners; writes one number.
        unsafe {
            call!(self.cuda.driver, cuEventElapsedTime_v2(&mut ms, start.handle, self.handle))
        }?;
        Ok(ms)
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        if self.cuda.make_current().is_ok() {
            // SAFETY: made in `new` and not used any more.
            let _ = unsafe { call!(self.cuda.driver, cuEventDestroy_v2(self.handle)) };
        }
    }
}
