//! Random weights of a network, from a seed: made on the device that it runs on.
//!
//! Scaled so that activations stay as large as in a trained model: every layer gives outputs of about
//! its input's size, modulation is mild, and attention looks at a few tokens instead of averaging all
//! of them away. Power, and so speed, depends on the data.

use half::bf16;

use crate::device::Tensor;
use crate::error::Result;
use crate::model::weights::offload::Residency;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::tensor_source::TensorSource;
use crate::model::weights::tensor_source::rows;
use crate::ops::conv2d::Conv2d;
use crate::ops::gemm::Weight;
use crate::ops::random_normal::RandomStream;
use crate::ops::random_normal::random_normal;

/// Of q and k after their RMSNorm: scores then have a spread of 2.6, and a softmax over 4,608 keys
/// rests on about ten of them.
const QK_NORM: f32 = 1.6;
/// Shift, scale and gate of about this size.
const MODULATION: f32 = 0.3;
/// Of the VAE's q, k and v, for the same reason as `QK_NORM`.
const VAE_QKV: f32 = 1.65;

/// Gives random tensors; the order in which a network asks decides which it gets.
#[derive(Debug)]
pub(crate) struct Synthetic {
    placement: Placement,
    seed: u64,
    stream: u32,
}

impl Synthetic {
    /// Random tensors at `placement`; matrices are bf16 whatever it says.
    pub(crate) fn new(placement: Placement, seed: u64) -> Self {
        Self { placement, seed, stream: 0 }
    }

    /// `[rows, cols]` whose products with inputs of size 1 have size `gain`.
    fn weight(&mut self, [rows, cols]: [usize; 2], gain: f32) -> Result<Weight> {
        self.stream += 1;
        let mut weight = Tensor::<bf16, 2>::empty(&self.placement.device, [rows, cols])?;
        let random = RandomStream { seed: self.seed, stream: self.stream };
        random_normal(&mut weight, gain / (cols as f32).sqrt(), random)?;
        Ok(Weight::Bf16(weight))
    }

    fn constant(&self, len: usize, value: f32) -> Result<Tensor<f32, 1>> {
        Tensor::from_host([len], vec![value; len]).to_device(&self.placement.device)
    }
}

/// How large a layer's outputs are, for inputs of size 1.
fn gain(name: &str) -> f32 {
    let is_modulation = name.contains("norm") && name.ends_with(".linear");
    match name {
        _ if is_modulation => MODULATION,
        _ if name.contains("mid_block.attentions") && !name.contains("to_out") => VAE_QKV,
        _ => 1.0,
    }
}

impl TensorSource for Synthetic {
    fn matrix(&mut self, parts: &[Part], cols: usize) -> Result<Weight> {
        let gain = parts.first().map_or(1.0, |part| gain(&part.name));
        self.weight([rows(parts), cols], gain)
    }

    fn bias(&mut self, parts: &[Part]) -> Result<Tensor<f32, 1>> {
        self.constant(rows(parts), 0.0)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor<f32, 1>> {
        let is_qk_norm = ["norm_q", "norm_k", "norm_added"].iter().any(|norm| name.contains(norm));
        let value = match name.ends_with(".bias") {
            true => 0.0,
            false if is_qk_norm => QK_NORM,
            false => 1.0,
        };
        self.constant(len, value)
    }

    fn residency(&self) -> Residency {
        self.placement.residency
    }

    fn host_table(&mut self, _: &str, [rows, cols]: [usize; 2]) -> Result<Tensor<f32, 2>> {
        self.stream += 1;
        let mut table = Tensor::<bf16, 2>::zeros([rows, cols]);
        random_normal(&mut table, 1.0, RandomStream { seed: self.seed, stream: self.stream })?;
        let values = table.host().iter().map(|value| value.to_f32()).collect();
        Ok(Tensor::from_host([rows, cols], values))
    }

    fn conv2d(&mut self, name: &str, shape: [usize; 4]) -> Result<Conv2d> {
        let [out_channels, in_channels, kernel, _] = shape;
        let weight = self.weight([out_channels, kernel * kernel * in_channels], gain(name))?;
        Ok(Conv2d { weight, kernel, bias: self.constant(out_channels, 0.0)? })
    }
}
