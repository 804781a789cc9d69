//! Where tensors live and what holds them.
//!
//! [`tensor`] is the typed tensor, [`matrix`] the strided two-dimensional view that ops take,
//! [`host_gemm`] the one place that calls the CPU matrix product, `cuda` the driver.

use std::sync::Arc;

mod cuda;
pub mod e4m3;
pub mod host_gemm;
pub mod kept;
pub mod matrix;
mod modules;
pub mod offloaded;
pub mod operand;
pub mod quantized;
pub mod quantized_qkv;
pub mod tensor;

use crate::error::Result;

pub use cuda::Cuda;
pub use cuda::CudaEvent;
pub use cuda::Faults;
pub use cuda::Graph;
pub use cuda::Guard;
pub use cuda::KernelTime;
pub(crate) use cuda::Launch;
pub(crate) use cuda::MapElement;
pub(crate) use cuda::MapLayout;
pub(crate) use cuda::Mapped;
pub use cuda::Profile;
pub use cuda::Profiled;
pub(crate) use cuda::Swizzle;
pub(crate) use cuda::TensorMap;
pub use cuda::Work;
pub(crate) use modules::Tier;

pub use matrix::Matrix;
pub use matrix::MatrixMut;
pub use offloaded::Offloaded;
pub use operand::Input;
pub use operand::Output;
pub use quantized::Quantized;
pub use quantized::QuantizedMut;
pub use quantized::QuantizedRef;
pub use quantized::Scaling;
pub use quantized_qkv::QuantizedQkv;
pub use tensor::Act;
pub use tensor::Element;
pub use tensor::Tensor;

/// Where to compute.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Device {
    /// The processor; the ops are the oracles.
    Cpu,
    /// An NVIDIA GPU; the ops are this program's kernels.
    Cuda(Arc<Cuda>),
}

/// A bug of the caller: host elements of what lies on a GPU.
#[track_caller]
fn not_on_host() -> ! {
    unreachable!("the elements are not in host memory")
}

/// A bug of the caller: a CUDA address of what lies in host memory.
#[track_caller]
fn not_on_cuda() -> ! {
    unreachable!("the elements are not in CUDA memory")
}

impl Device {
    /// The GPU with that index.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is none that can be used, [`crate::Error::Cuda`] if the
    /// driver refuses.
    pub fn cuda(index: usize) -> Result<Self> {
        Ok(Self::Cuda(Cuda::open(index, None)?))
    }

    /// As [`Self::cuda`], for tests: allocations fail as `faults` says.
    ///
    /// # Errors
    /// As [`Self::cuda`].
    #[doc(hidden)]
    pub fn cuda_with_faults(index: usize, faults: Arc<Faults>) -> Result<Self> {
        Ok(Self::Cuda(Cuda::open(index, Some(faults))?))
    }

    /// Fails if the device is a GPU that an error has made useless to this process.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] with the call that told first.
    pub(crate) fn check_alive(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda(cuda) => cuda.check_alive(),
        }
    }

    /// As [`Self::cuda`], for tests: every buffer is guarded against writes outside it, which
    /// [`Self::guard_damage`] counts.
    ///
    /// # Errors
    /// As [`Self::cuda`].
    #[doc(hidden)]
    pub fn cuda_guarded(index: usize, guard: Guard) -> Result<Self> {
        Ok(Self::Cuda(Cuda::open_guarded(index, guard)?))
    }

    /// Guard bands that were written to since the last call; 0 where there are none.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn guard_damage(&self) -> Result<usize> {
        match self {
            Self::Cpu => Ok(0),
            Self::Cuda(cuda) => cuda.guard_damage(),
        }
    }

    /// Whether a driver is installed, usable or not.
    #[must_use]
    pub fn has_driver() -> bool {
        cuda::driver_is_present()
    }

    /// The CUDA compiler that made the kernels, none where this program has none.
    #[must_use]
    pub fn cuda_toolkit() -> Option<&'static str> {
        modules::TOOLKIT
    }

    /// What computes, for records: `cpu` or the GPU's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(cuda) => cuda.name(),
        }
    }

    /// Runs `make`, whose large tensors are to stay: on CUDA they are laid so that little is left
    /// between them.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`], and those of `make`.
    pub(crate) fn lasting<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        match self {
            Self::Cpu => make(),
            Self::Cuda(cuda) => cuda.lasting(make),
        }
    }

    /// What is started from now on may use all that [`Offloaded::fetch`] gave so far.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn await_fetched(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda(cuda) => cuda.work_follows_copies(),
        }
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for what went wrong in it.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda(cuda) => cuda.synchronize(),
        }
    }
}
