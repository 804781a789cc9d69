//! The one way to start a kernel: a name, a grid, and one struct of parameters.
#![expect(unsafe_code, reason = "the driver takes a pointer to the parameters")]

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::Work;
use crate::device::cuda::driver::call;
use crate::device::cuda::loaded_modules::Function;
use crate::error::Result;

/// How a kernel is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Blocks along x, y and z.
    pub(crate) grid: [u32; 3],
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Dynamic shared memory of a block.
    pub(crate) smem_bytes: u32,
    /// What it has to do, for rates.
    pub(crate) work: Work,
}

impl Launch {
    /// The same, with what it has to do.
    pub(crate) fn doing(self, work: Work) -> Self {
        Self { work, ..self }
    }
}

impl Cuda {
    /// Starts `entry` on the engine's stream.
    ///
    /// Every launcher in `ops/cuda` checks shapes, strides and alignment before it comes here;
    /// `params` mirrors the `Params` struct of the kernel's `.cu` file, which both sides assert.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] if there is no such kernel or the driver refuses.
    pub(crate) fn launch<P: Pod>(
        self: &Arc<Self>,
        entry: &str,
        launch: Launch,
        params: &P,
    ) -> Result<()> {
        self.timed(entry, launch.work, || self.start(entry, launch, params))
    }

    fn start<P: Pod>(&self, entry: &str, launch: Launch, params: &P) -> Result<()> {
        let Function { handle: function, waits, .. } = self.function(entry, launch.smem_bytes)?;
        // A kernel that waits for the one before it by itself may be set up while that one runs.
        let is_early = waits && self.streams.is_after_kernel();
        let mut early = sys::CUlaunchAttribute_st {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let [grid_x, grid_y, grid_z] = launch.grid;
        let config = sys::CUlaunchConfig {
            gridDimX: grid_x,
            gridDimY: grid_y,
            gridDimZ: grid_z,
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.smem_bytes,
            hStream: self.stream(),
            attrs: &mut early,
            numAttrs: u32::from(is_early),
        };
        let mut arguments = [ptr::from_ref(params).cast_mut().cast::<c_void>()];
        // SAFETY: every kernel takes exactly one argument, its `Params` struct by value, and P is its
        // mirror; the driver copies it before the call returns. The stream and function belong to
        // the context that is current, and outlive this call. The buffers that the parameters point
        // to are freed only after the stream has passed this launch (see `Buffer`).
        unsafe {
            call!(
                self.driver,
                cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), ptr::null_mut())
            )
        }?;
        self.streams.set_after_kernel(true);
        Ok(())
    }
}
