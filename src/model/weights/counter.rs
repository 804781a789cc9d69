//! The bytes that a network's weights take in their final form, told from its sizes alone: the third
//! source of tensors, beside checkpoint and seed. Its tensors are empty.

use std::ops::Range;

use half::bf16;

use crate::device::Tensor;
use crate::error::Result;
use crate::model::plan::Precision;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::elastic::ElasticLinear;
use crate::model::weights::elastic::Needs;
use crate::model::weights::offload::Offload;
use crate::model::weights::offload::Residence;
use crate::model::weights::offload::Residency;
use crate::model::weights::tensor_source::LayerName;
use crate::model::weights::tensor_source::Network;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::TensorSource;
use crate::model::weights::tensor_source::rows;
use crate::ops::conv2d::Conv2d;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// Adds up what it is asked for.
#[derive(Debug)]
pub(crate) struct Counter {
    dtype: WeightDtype,
    residency: Residency,
    bytes: Bytes,
}

/// Bytes of weights by where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// On the device.
    pub resident: usize,
    /// In host memory, waiting to be used.
    pub offloaded: usize,
}

impl Counter {
    /// The bytes of a network of that config, with matrices of `dtype` where `residency` leaves them.
    pub(in crate::model) fn count<W: Network>(
        dtype: WeightDtype,
        residency: Residency,
        config: &W::Config,
    ) -> Result<Bytes> {
        let mut counter = Self { dtype, residency, bytes: Bytes::default() };
        W::read(&mut counter, config)?;
        Ok(counter.bytes)
    }

    fn weight(&mut self, [rows, cols]: [usize; 2]) -> Weight {
        let (weight, size) = match self.dtype {
            WeightDtype::F32 => (Weight::F32(Tensor::zeros([0, 0])), size_of::<f32>()),
            WeightDtype::Bf16 => (Weight::Bf16(Tensor::zeros([0, 0])), size_of::<bf16>()),
        };
        self.bytes.resident += rows * cols * size;
        weight
    }

    fn floats(&mut self, len: usize) -> Tensor<f32, 1> {
        self.bytes.resident += len * size_of::<f32>();
        Tensor::zeros([0])
    }
}

impl TensorSource for Counter {
    fn matrix(&mut self, parts: &[Part], cols: usize) -> Result<Weight> {
        Ok(self.weight([rows(parts), cols]))
    }

    fn bias(&mut self, parts: &[Part]) -> Result<Tensor<f32, 1>> {
        Ok(self.floats(rows(parts)))
    }

    fn vector(&mut self, _: &str, len: usize) -> Result<Tensor<f32, 1>> {
        Ok(self.floats(len))
    }

    fn elastic(
        &mut self,
        linear: Linear,
        [rows, cols]: [usize; 2],
        needs: &Needs,
        _inputs: Option<&[f32]>,
        _layer: LayerName<'_>,
    ) -> Result<ElasticLinear> {
        if needs.has(Precision::Fp8) {
            self.bytes.resident += rows * cols + 2 * rows * size_of::<f32>();
        }
        if !needs.has(Precision::Bf16) {
            let before = self.bytes.resident;
            let (_, _) = (self.weight([rows, cols]), self.floats(rows));
            self.bytes.resident = 2 * before - self.bytes.resident;
        }
        Ok(linear.into())
    }

    fn units(&mut self, _linears: &[&Linear], rows: Range<usize>, _name: &str) -> Result<Vec<f32>> {
        Ok(vec![1.0; rows.len()])
    }

    fn constants(&mut self, values: &[f32], _near: &Linear) -> Result<Tensor<f32, 1>> {
        Ok(self.floats(values.len()))
    }

    fn residency(&self) -> Residency {
        self.residency
    }

    fn residence<W: Offload>(
        &mut self,
        offloaded: bool,
        read: impl FnOnce(&mut Self) -> Result<W>,
    ) -> Result<Residence<W>> {
        let before = self.bytes.resident;
        let weights = read(self)?;
        if offloaded {
            self.bytes.offloaded += self.bytes.resident - before;
            self.bytes.resident = before;
        }
        Ok(Residence::Resident(weights))
    }

    fn in_fp8(&mut self, linear: &Linear, [rows, cols]: [usize; 2]) -> Result<Linear> {
        let before = self.bytes.resident;
        self.weight([rows, cols]);
        self.bytes.resident = 2 * before - self.bytes.resident;
        self.bytes.resident += rows * cols + rows * size_of::<f32>();
        Ok(Linear { weight: Weight::Bf16(Tensor::zeros(linear.weight.shape())), bias: None })
    }

    /// Takes nothing where the network runs.
    fn host_table(&mut self, _: &str, _: [usize; 2]) -> Result<Tensor<f32, 2>> {
        Ok(Tensor::zeros([0, 0]))
    }

    fn conv2d(&mut self, _: &str, shape: [usize; 4]) -> Result<Conv2d> {
        let [out_channels, in_channels, kernel, width] = shape;
        let weight = self.weight([out_channels, in_channels * kernel * width]);
        Ok(Conv2d { weight, kernel, bias: self.floats(out_channels) })
    }
}
