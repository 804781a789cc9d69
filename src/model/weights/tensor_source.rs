//! Where a network's tensors come from: a checkpoint ([`crate::model::weights::reader`]) or a seed
//! (`synthetic`). Networks ask for them by diffusers names.

use std::ops::Range;

use half::bf16;

use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::elastic::ElasticLinear;
use crate::model::weights::elastic::Needs;
use crate::model::weights::elastic::quantized;
use crate::model::weights::offload::Offload;
use crate::model::weights::offload::Residence;
use crate::model::weights::offload::Residency;
use crate::model::weights::units::units;
use crate::ops::conv2d::Conv2d;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// Where weights are put, and in which form matrices are kept.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Where the networks run.
    pub device: Device,
    /// Of matrices; vectors are f32 everywhere.
    pub dtype: WeightDtype,
    /// What of them does not stay there as it is.
    pub residency: Residency,
}

impl From<WeightDtype> for Placement {
    /// In host memory.
    fn from(dtype: WeightDtype) -> Self {
        Self { device: Device::Cpu, dtype, residency: Residency::default() }
    }
}

/// Rows of a layer that become rows of a fused one.
#[derive(Debug)]
pub(crate) struct Part {
    /// The layer, without `.weight`.
    pub(super) name: String,
    /// All its rows.
    pub(super) rows: usize,
    /// Those that are taken.
    pub(super) take: Range<usize>,
}

impl Part {
    /// All `rows` of a layer.
    pub(crate) fn whole(name: impl Into<String>, rows: usize) -> Self {
        Self { name: name.into(), rows, take: 0..rows }
    }

    /// Some of the `rows` of a layer.
    pub(crate) fn some(name: impl Into<String>, rows: usize, take: Range<usize>) -> Self {
        Self { name: name.into(), rows, take }
    }
}

/// What a layer is called in files, and how many columns a head has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerName<'a> {
    pub(super) name: &'a str,
    pub(super) head_dim: usize,
}

/// The rows of a matrix made of `parts`.
pub(super) fn rows(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.take.len()).sum()
}

/// Gives tensors by their diffusers names.
pub(crate) trait TensorSource {
    /// A matrix whose rows are those of `parts`, one after the other.
    fn matrix(&mut self, parts: &[Part], cols: usize) -> Result<Weight>;

    /// The biases of `parts`, one after the other.
    fn bias(&mut self, parts: &[Part]) -> Result<Tensor<f32, 1>>;

    /// A vector of f32.
    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor<f32, 1>>;

    /// A table of f32 that the host reads, wherever the network runs.
    fn host_table(&mut self, name: &str, shape: [usize; 2]) -> Result<Tensor<f32, 2>>;

    /// A convolution; `shape` is `[C_out, C_in, kernel_h, kernel_w]`, as in the checkpoint.
    fn conv2d(&mut self, name: &str, shape: [usize; 4]) -> Result<Conv2d>;

    /// A linear layer.
    fn linear(&mut self, parts: &[Part], cols: usize) -> Result<Linear> {
        Ok(Linear { weight: self.matrix(parts, cols)?, bias: Some(self.bias(parts)?) })
    }

    /// A linear layer of a block, called `layer`, of which `needs` will be made.
    fn block_linear(
        &mut self,
        parts: &[Part],
        cols: usize,
        _layer: &str,
        _needs: &Needs,
    ) -> Result<Linear> {
        self.linear(parts, cols)
    }

    /// A linear layer `[N, K]`, called `layer`, in what is needed of it; `inputs` are its
    /// input's units.
    fn elastic(
        &mut self,
        linear: Linear,
        _shape: [usize; 2],
        needs: &Needs,
        inputs: Option<&[f32]>,
        _layer: LayerName<'_>,
    ) -> Result<ElasticLinear> {
        ElasticLinear::of(linear, needs, inputs, |_| Ok(Vec::new()))
    }

    /// The units, called `name`, of the outputs `rows` of layers that take turns.
    fn units(&mut self, linears: &[&Linear], rows: Range<usize>, _name: &str) -> Result<Vec<f32>> {
        units(linears, rows)
    }

    /// Numbers where `near` is.
    fn constants(&mut self, values: &[f32], near: &Linear) -> Result<Tensor<f32, 1>> {
        Tensor::from_host([values.len()], values.to_vec()).to_device(&near.weight.device())
    }

    /// What of the weights does not stay on the device as it is.
    fn residency(&self) -> Residency;

    /// The weights that `read` asks for, out of the device's memory if they are `offloaded`.
    fn residence<W: Offload>(
        &mut self,
        offloaded: bool,
        read: impl FnOnce(&mut Self) -> Result<W>,
    ) -> Result<Residence<W>>
    where
        Self: Sized,
    {
        let weights = read(self)?;
        Ok(match offloaded {
            true => Residence::Offloaded(weights.offload()?),
            false => Residence::Resident(weights),
        })
    }

    /// A linear layer `[N, K]`, in e4m3 alone.
    fn in_fp8(&mut self, linear: &Linear, _shape: [usize; 2]) -> Result<Linear> {
        quantized(linear, None)
    }

    /// A linear layer without a bias.
    fn linear_without_bias(&mut self, parts: &[Part], cols: usize) -> Result<Linear> {
        Ok(Linear { weight: self.matrix(parts, cols)?, bias: None })
    }
}

/// The weights of a network, which any source can give.
pub(in crate::model) trait Network: Sized {
    /// The network's sizes.
    type Config;

    /// Asks `source` for every tensor.
    fn read(source: &mut impl TensorSource, config: &Self::Config) -> Result<Self>;
}

/// A matrix in host memory in the form and place of all others.
pub(super) fn placed(shape: [usize; 2], data: Vec<f32>, placement: &Placement) -> Result<Weight> {
    Ok(match placement.dtype {
        WeightDtype::F32 => {
            Weight::F32(Tensor::from_host(shape, data).to_device(&placement.device)?)
        }
        WeightDtype::Bf16 => {
            let data = data.into_iter().map(bf16::from_f32).collect();
            Weight::Bf16(Tensor::from_host(shape, data).to_device(&placement.device)?)
        }
    })
}
