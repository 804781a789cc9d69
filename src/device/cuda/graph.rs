//! A recorded sequence of launches and copies, which the driver starts as one.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver_error;
use crate::device::cuda::make_current;
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
        make_current(cuda.context)?;
        // Relaxed: a kernel's module may be loaded, and memory taken from the driver, meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives as long as `cuda`.
        unsafe { result::stream::begin_capture(cuda.stream(), mode) }
            .map_err(|error| driver_error("cuStreamBeginCapture", error))?;
        let recorded = body();
        // SAFETY: the capture began above; it must end even where `body` failed.
        let graph = unsafe { result::stream::end_capture(cuda.stream()) }
            .map_err(|error| driver_error("cuStreamEndCapture", error));
        let graph = match graph {
            Ok(graph) => graph,
            // What `body` says comes before what became of the recording.
            Err(error) => return Err(recorded.err().unwrap_or(error)),
        };
        let exec = recorded.and_then(|()| {
            // SAFETY: the graph was just made.
            unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) }
                .map_err(|error| driver_error("cuGraphInstantiate", error))
        });
        // SAFETY: the executable graph, if there is one, is a copy.
        unsafe { result::graph::destroy(graph) }
            .map_err(|error| driver_error("cuGraphDestroy", error))?;
        Ok(Self { cuda: Arc::clone(cuda), exec: exec? })
    }

    /// Starts the recorded work, behind all work before it.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn launch(&self) -> Result<()> {
        make_current(self.cuda.context)?;
        // SAFETY: graph and stream live as long as `self`.
        unsafe { result::graph::launch(self.exec, self.cuda.stream()) }
            .map_err(|error| driver_error("cuGraphLaunch", error))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if make_current(self.cuda.context).is_ok() {
            // SAFETY: made in `record` and not used any more; the driver keeps what still runs.
            let _ = unsafe { result::graph::exec_destroy(self.exec) };
        }
    }
}
