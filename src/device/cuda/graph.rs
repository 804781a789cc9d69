//! A recorded sequence of launches and copies, which the driver starts as one.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver::call;
use crate::error::Result;

/// A CUDA graph. The tensors that its kernels use must outlive its last launch, which whoever records
/// it sees to.
#[derive(Debug)]
pub struct Graph {
    cuda: Arc<Cuda>,
    exec: sys::CUgraphExec,
}

// SAFETY: the handle is a plain number to the driver, which may be called from any thread.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Graph {
    /// Records what `body` starts on the GPU, without running it.
    ///
    /// `body` may not wait for the GPU, nor upload or download. Memory that it takes from the arena
    /// and gives back is taken by others between two launches, so it may only be scratch. Where the
    /// GPU is to decide, it calls [`crate::ops::branch::branch`].
    ///
    /// # Errors
    /// What `body` returns; [`crate::Error::Cuda`].
    pub fn record(cuda: &Arc<Cuda>, body: impl FnOnce() -> Result<()>) -> Result<Self> {
        cuda.make_current()?;
        // Relaxed: a kernel's module may be loaded, and memory taken from the driver, meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives as long as `cuda`.
        unsafe { call!(cuda.driver, cuStreamBeginCapture_v2(cuda.stream(), mode)) }?;
        let recorded = body();
        let mut graph = ptr::null_mut();
        // SAFETY: the capture began above; it must end even where `body` failed. Writes one handle.
        let ended = unsafe { call!(cuda.driver, cuStreamEndCapture(cuda.stream(), &mut graph)) };
        if let Err(error) = ended {
            // What `body` says comes before what became of the recording.
            return Err(recorded.err().unwrap_or(error));
        }
        let exec = recorded.and_then(|()| {
            let mut exec = ptr::null_mut();
            // SAFETY: the graph was just made; writes one handle.
            unsafe { call!(cuda.driver, cuGraphInstantiateWithFlags(&mut exec, graph, 0)) }?;
            Ok(exec)
        });
        // SAFETY: the executable graph, if there is one, is a copy.
        unsafe { call!(cuda.driver, cuGraphDestroy(graph)) }?;
        Ok(Self { cuda: Arc::clone(cuda), exec: exec? })
    }

    /// Starts the recorded work, behind all work before it.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn launch(&self) -> Result<()> {
        self.cuda.make_current()?;
        // SAFETY: graph and stream live as long as `self`.
        unsafe { call!(self.cuda.driver, cuGraphLaunch(self.exec, self.cuda.stream())) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.cuda.make_current().is_ok() {
            // SAFETY: made in `record` and not used any more; the driver keeps what still runs.
            let _ = unsafe { call!(self.cuda.driver, cuGraphExecDestroy(self.exec)) };
        }
    }
}
