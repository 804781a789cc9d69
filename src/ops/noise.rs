//! Initial latents: the normal numbers that `torch.randn` draws for a seed.
//!
//! `out [B, C, h, w]` ~ N(0, 1), in the order of a contiguous tensor, unpacked. A CUDA and a CPU
//! generator give unrelated numbers for one seed, so the source is part of a picture's settings.
//! Source: `torch.randn` of `PyTorch` 2.11 and 2.15 (`DistributionTemplates.h`, CPU and CUDA).
//! Oracle: `cpu/noise/`.

use std::str::FromStr;

use crate::device::Device;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;

/// The dtype that the numbers are drawn in: the pipeline's, bf16 for FLUX.1 as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseDtype {
    /// As drawn.
    F32,
    /// Rounded to the nearest bf16, ties to even; the tensor still holds f32.
    Bf16,
}

/// How many blocks of 256 threads a card runs at once: it decides which thread draws which number.
///
/// A card runs multiprocessors x (most threads of one / 256) blocks, and no more than the tensor
/// needs. At 1024 x 1024 an H100, H200 or B200 is not capped, and they agree; smaller cards are, and
/// give other numbers at the end of the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid(u32);

impl Grid {
    /// An H100 or H200 with SXM socket: 132 multiprocessors of 2048 threads.
    pub const H100: Self = Self(132 * 8);

    /// The grid of a card with that many multiprocessors of that many threads.
    ///
    /// # Errors
    /// [`Error::Request`] if the product is no grid at all.
    pub fn of_card(multiprocessors: usize, threads_per_multiprocessor: usize) -> Result<Self> {
        let blocks = multiprocessors.checked_mul(threads_per_multiprocessor / 256);
        let blocks = blocks.and_then(|blocks| u32::try_from(blocks).ok());
        Self::of_blocks(blocks.unwrap_or(0))
    }

    /// A grid of at most `blocks` blocks of 256 threads.
    ///
    /// # Errors
    /// [`Error::Request`] if `blocks` is 0 or above 65,536, more than any card has.
    pub fn of_blocks(blocks: u32) -> Result<Self> {
        if (1..=1 << 16).contains(&blocks) {
            return Ok(Self(blocks));
        }
        let reason = format!("expected 1 to 65536 blocks, found {blocks}");
        Err(Error::Request { field: "--rng-grid", reason })
    }

    /// The most blocks of 256 threads.
    #[must_use]
    pub fn blocks(self) -> u32 {
        self.0
    }
}

impl FromStr for Grid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("h100") {
            return Ok(Self::H100);
        }
        let blocks = text.parse().map_err(|_| Error::Request {
            field: "--rng-grid",
            reason: format!("expected `h100` or a number of blocks, found `{text}`"),
        })?;
        Self::of_blocks(blocks)
    }
}

/// Whose `torch.Generator` is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseSource {
    /// A CUDA generator (Philox 4x32-10). The CPU cannot repeat the card's fast sine: values lie
    /// within 2.6e-6 of the card's, and some 80 of 262,144 differ after rounding to bf16.
    TorchCuda {
        /// The card's grid.
        grid: Grid,
        /// The pipeline's dtype.
        dtype: NoiseDtype,
    },
    /// A CPU generator (Mersenne twister) on a machine with AVX2, bit for bit; bf16 as since
    /// `PyTorch` 2.12.
    TorchCpu {
        /// The pipeline's dtype.
        dtype: NoiseDtype,
    },
    /// A CPU generator with a bf16 tensor before `PyTorch` 2.12, which computed in bf16 throughout.
    TorchCpuLegacy,
}

impl NoiseSource {
    /// The name on the command line and in metadata.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TorchCuda { .. } => "torch-cuda",
            Self::TorchCpu { .. } => "torch-cpu",
            Self::TorchCpuLegacy => "torch-cpu-legacy",
        }
    }

    /// The grid, for the source that depends on one.
    #[must_use]
    pub fn grid(self) -> Option<Grid> {
        match self {
            Self::TorchCuda { grid, .. } => Some(grid),
            Self::TorchCpu { .. } | Self::TorchCpuLegacy => None,
        }
    }
}

/// Fills `out [B, C, h, w]` with what `torch.randn(out.shape, generator=...manual_seed(seed))` gives
/// for `source`: one draw of the whole batch. A CPU generator ignores the seed's upper 32 bits.
///
/// A CPU generator's numbers are drawn on the host whatever the device.
///
/// # Errors
/// [`Error::Shape`] if there are too many numbers for a kernel, [`Error::OutOfMemory`] or
/// [`Error::Cuda`].
pub fn noise(out: &mut Tensor<f32, 4>, source: NoiseSource, seed: u64) -> Result<()> {
    let device = out.device();
    match (&device, source) {
        (Device::Cuda(cuda), NoiseSource::TorchCuda { grid, dtype }) => {
            cuda::noise::noise(cuda, out, grid, dtype, seed)
        }
        (Device::Cuda(_), NoiseSource::TorchCpu { .. } | NoiseSource::TorchCpuLegacy) => {
            let mut drawn = Tensor::zeros(out.shape());
            cpu::noise::noise(drawn.host_mut(), source, seed);
            // A copy, so that `out` stays where it is.
            out.matrix_mut().copy_from(drawn.to_device(&device)?.matrix())
        }
        (Device::Cpu, _) => {
            cpu::noise::noise(out.host_mut(), source, seed);
            Ok(())
        }
    }
}
