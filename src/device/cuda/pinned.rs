//! Host memory that the GPU copies from while it computes, and the stream of those copies.
#![expect(unsafe_code, reason = "pinned memory, copies and events of the CUDA driver")]

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::buffer::Buffer;
use crate::device::cuda::driver::Driver;
use crate::device::cuda::driver::call;
use crate::error::Error;
use crate::error::Result;

/// The stream that fetches, and what it and the stream of all work wait for.
#[derive(Debug)]
pub(super) struct Copies {
    stream: sys::CUstream,
    /// Behind the work that a copy waits for.
    worked: sys::CUevent,
    /// Behind the copies that work waits for.
    copied: sys::CUevent,
}

impl Copies {
    /// A stream of the current context, which does not wait for the default stream.
    pub(super) fn new(driver: &Driver) -> Result<Self> {
        let mut stream = ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: writes one handle; ended in `destroy`.
        unsafe { call!(driver, cuStreamCreate(&mut stream, flags)) }?;
        let event = || driver.event(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        Ok(Self { stream, worked: event()?, copied: event()? })
    }

    /// Ends the stream, which is idle and not used any more.
    pub(super) fn destroy(&self, driver: &Driver) {
        for event in [self.worked, self.copied] {
            // SAFETY: made in `new`; the caller says that nobody uses it.
            let _ = unsafe { call!(driver, cuEventDestroy_v2(event)) };
        }
        // SAFETY: as above.
        let _ = unsafe { call!(driver, cuStreamDestroy_v2(self.stream)) };
    }
}

impl Cuda {
    /// Copies started from now on wait for all work so far: what it reads may lie where they write.
    fn copies_follow_work(&self) -> Result<()> {
        let (Copies { stream, worked, .. }, work) = (&self.copies, self.stream());
        // SAFETY: event and stream live as long as `self`.
        unsafe { call!(self.driver, cuEventRecord(*worked, work)) }?;
        // SAFETY: as above; the driver takes the event as it was recorded last.
        unsafe { call!(self.driver, cuStreamWaitEvent(*stream, *worked, 0)) }
    }

    /// Work started from now on waits for all copies so far.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub(crate) fn work_follows_copies(&self) -> Result<()> {
        self.make_current()?;
        let Copies { stream, copied, .. } = &self.copies;
        // SAFETY: event and stream live as long as `self`.
        unsafe { call!(self.driver, cuEventRecord(*copied, *stream)) }?;
        // SAFETY: as above.
        unsafe { call!(self.driver, cuStreamWaitEvent(self.stream(), *copied, 0)) }
    }
}

/// Page-locked host memory.
#[derive(Debug)]
pub(crate) struct Pinned {
    cuda: Arc<Cuda>,
    memory: *mut u8,
    bytes: usize,
}

// SAFETY: the memory belongs to this alone, is written in `of` only, and the driver may be called from
// any thread.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// What `buffer` holds, after all work before it.
    ///
    /// # Errors
    /// [`Error::Device`] if the system gives no such memory; [`Error::Cuda`].
    pub(crate) fn of(buffer: &Buffer) -> Result<Self> {
        let (cuda, bytes) = (Arc::clone(buffer.cuda()), buffer.bytes());
        cuda.synchronize()?;
        let mut memory = ptr::null_mut();
        let size = bytes.max(1);
        // SAFETY: writes one address; freed in `drop`.
        let given = unsafe {
            call!(cuda.driver, cuMemHostAlloc(&mut memory, size, 0), CUDA_ERROR_OUT_OF_MEMORY)
        }?;
        if !given {
            let reason = format!(
                "expected {:.2} GB of host memory that can be pinned, for weights that the GPU's \
                 memory does not hold, found less; free host memory, or raise --max-vram",
                bytes as f64 / 1e9
            );
            return Err(Error::Device { reason });
        }
        let pinned = Self { cuda, memory: memory.cast(), bytes };
        let Self { cuda, memory, .. } = &pinned;
        // SAFETY: both are `bytes` long, and no kernel is running; the copy is over on return.
        unsafe { call!(cuda.driver, cuMemcpyDtoH_v2((*memory).cast(), buffer.address(), bytes)) }?;
        Ok(pinned)
    }

    /// The GPU that it is for.
    pub(crate) fn cuda(&self) -> &Arc<Cuda> {
        &self.cuda
    }

    /// A buffer with these bytes, once [`Cuda::work_follows_copies`] was called: the copy runs beside
    /// the work that was started before.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::Cuda`].
    pub(crate) fn fetch(&self) -> Result<Buffer> {
        let Self { cuda, memory, bytes } = self;
        let buffer = Buffer::new(cuda, *bytes)?;
        cuda.make_current()?;
        cuda.copies_follow_work()?;
        let (target, stream) = (buffer.address(), cuda.copies.stream);
        // SAFETY: both are `bytes` long; this memory is not written any more and freed only when the
        // stream is idle, the buffer's is used by work that waits for the copy.
        unsafe {
            call!(cuda.driver, cuMemcpyHtoDAsync_v2(target, (*memory).cast(), *bytes, stream))
        }?;
        Ok(buffer)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Work waits for the copies from here, so both are over.
        let _ = self.cuda.work_follows_copies().and_then(|()| self.cuda.synchronize());
        // SAFETY: made in `of`; nothing copies from it.
        let _ = unsafe { call!(self.cuda.driver, cuMemFreeHost(self.memory.cast())) };
    }
}
