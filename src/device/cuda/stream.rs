//! The stream of all work, and a second one that only records the bodies of branches.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver::Driver;
use crate::device::cuda::driver::call;
use crate::error::Error;
use crate::error::Result;

/// The two streams of a GPU.
#[derive(Debug)]
pub(super) struct Streams {
    /// Everything runs here.
    pub(super) work: sys::CUstream,
    /// Records bodies, and never runs anything.
    pub(super) body: sys::CUstream,
    /// Whether a body is being recorded.
    in_body: AtomicBool,
    /// Whether the last that went to the stream was a kernel.
    after_kernel: AtomicBool,
}

impl Streams {
    /// Streams of the current context, which do not wait for the default stream.
    pub(super) fn new(driver: &Driver) -> Result<Self> {
        let new = || -> Result<_> {
            let mut stream = ptr::null_mut();
            let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
            // SAFETY: writes one handle; ended in `destroy`.
            unsafe { call!(driver, cuStreamCreate(&mut stream, flags)) }?;
            Ok(stream)
        };
        let [in_body, after_kernel] = [false, false].map(AtomicBool::new);
        Ok(Self { work: new()?, body: new()?, in_body, after_kernel })
    }

    /// Ends the streams, which are idle and not used any more.
    pub(super) fn destroy(&self, driver: &Driver) {
        for stream in [self.work, self.body] {
            // SAFETY: made in `new`; the caller says that nobody uses it.
            let _ = unsafe { call!(driver, cuStreamDestroy_v2(stream)) };
        }
    }

    /// Whether a body is being recorded.
    pub(super) fn in_body(&self) -> bool {
        self.in_body.load(Ordering::Relaxed)
    }

    /// Whether the last that went to the stream was a kernel, which a kernel that waits by itself may
    /// follow early; behind a copy or the start of a recording there is nothing to be early for.
    pub(super) fn is_after_kernel(&self) -> bool {
        self.after_kernel.load(Ordering::Relaxed)
    }

    /// See [`Self::is_after_kernel`].
    pub(super) fn set_after_kernel(&self, after: bool) {
        self.after_kernel.store(after, Ordering::Relaxed);
    }

    /// Sends what `body` starts to the stream that records bodies.
    pub(super) fn to_body<T>(&self, body: impl FnOnce() -> T) -> T {
        self.in_body.store(true, Ordering::Relaxed);
        self.set_after_kernel(false);
        let result = body();
        self.in_body.store(false, Ordering::Relaxed);
        self.set_after_kernel(false);
        result
    }
}

impl Cuda {
    /// The stream that work goes to, for the calls of this module: one for all, but while the body
    /// of a branch is recorded the one that records it.
    pub(super) fn stream(&self) -> sys::CUstream {
        // A launch says otherwise once it is made.
        self.streams.set_after_kernel(false);
        if self.streams.in_body() { self.streams.body } else { self.streams.work }
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// [`Error::Cuda`] for what went wrong in it, or inside a branch that is being recorded.
    pub(crate) fn synchronize(&self) -> Result<()> {
        if self.streams.in_body() {
            // Asked here, the driver would spoil the whole recording.
            let reason = "expected no wait for the GPU inside a branch that is being recorded";
            return Err(Error::Cuda { call: "cuStreamSynchronize", reason: reason.into() });
        }
        self.make_current()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { call!(self.driver, cuStreamSynchronize(self.streams.work)) }
    }
}
