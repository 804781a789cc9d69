//! What the pipeline's dtype and mode mean for each of its parts.

use crate::device::Device;
use crate::elastic::Mode;
use crate::error::Error;
use crate::error::Result;
use crate::model::weights::dtype::WeightDtype;
use crate::ops::euler_step::LatentRounding;
use crate::ops::noise::NoiseDtype;
use crate::ops::to_rgb8::PixelRounding;
use crate::pipeline::DType;
use crate::pipeline::schedule::TimeRounding;

/// The dtype, resolved, and the roundings that follow from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Precision {
    pub(crate) dtype: DType,
    pub(crate) weights: WeightDtype,
    pub(crate) noise: NoiseDtype,
    pub(crate) times: TimeRounding,
    pub(crate) latents: LatentRounding,
    pub(crate) pixels: PixelRounding,
}

impl Precision {
    /// What `dtype` is on `device`.
    ///
    /// # Errors
    /// [`Error::Request`] for f32 on CUDA, whose kernels compute on bf16.
    pub(crate) fn new(device: &Device, dtype: DType, mode: &Mode) -> Result<Self> {
        let original = *mode == Mode::Original;
        match (device, dtype) {
            (Device::Cuda(_), DType::F32) => Err(Error::Request {
                field: "dtype",
                reason: "expected bf16 on CUDA, found f32; leave out --dtype or add --device cpu"
                    .into(),
            }),
            (Device::Cpu, DType::F32 | DType::Auto) => Ok(Self {
                dtype: DType::F32,
                weights: WeightDtype::F32,
                noise: NoiseDtype::F32,
                times: TimeRounding::F32,
                latents: LatentRounding::F32,
                pixels: PixelRounding::F32,
            }),
            (Device::Cuda(_), DType::Auto) | (_, DType::Bf16) => Ok(Self {
                dtype: DType::Bf16,
                weights: WeightDtype::Bf16,
                noise: NoiseDtype::Bf16,
                times: TimeRounding::DiffusersBf16,
                latents: LatentRounding::DiffusersBf16,
                pixels: match (device, original) {
                    (Device::Cuda(_), true) => PixelRounding::DiffusersBf16,
                    _ => PixelRounding::F32,
                },
            }),
        }
    }
}
