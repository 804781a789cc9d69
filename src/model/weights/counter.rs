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
    bytes: usize,
}

impl Counter {
    /// The bytes of a network of that config, with matrices of `dtype`.
    pub(in crate::model) fn count<W: Network>(
        dtype: WeightDtype,
        config: &W::Config,
    ) -> Result<usize> {
        let mut counter = Self { dtype, bytes: 0 };
        W::read(&mut counter, config)?;
        Ok(counter.bytes)
    }

    fn weight(&mut self, [rows, cols]: [usize; 2]) -> Weight {
        let (weight, size) = match self.dtype {
            WeightDtype::F32 => (Weight::F32(Tensor::zeros([0, 0])), size_of::<f32>()),
            WeightDtype::Bf16 => (Weight::Bf16(Tensor::zeros([0, 0])), size_of::<bf16>()),
        };
        self.bytes += rows * cols * size;
        weight
    }

    fn floats(&mut self, len: usize) -> Tensor<f32, 1> {
        self.bytes += len * size_of::<f32>();
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
            self.bytes += rows * cols + 2 * rows * size_of::<f32>();
        }
        if !needs.has(Precision::Bf16) {
            let before = self.bytes;
            let (_, _) = (self.weight([rows, cols]), self.floats(rows));
            self.bytes = 2 * before - self.bytes;
        }
        Ok(linear.into())
    }

    fn units(&mut self, _linears: &[&Linear], rows: Range<usize>) -> Result<Vec<f32>> {
        Ok(vec![1.0; rows.len()])
    }

    fn constants(&mut self, values: &[f32], _near: &Linear) -> Result<Tensor<f32, 1>> {
        Ok(self.floats(values.len()))
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
