//! Tensors straight from the mapped file into their final place: fused, converted, on all cores.

use std::ops::Range;

use rayon::prelude::*;

use crate::device::Device;
use crate::device::Element;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::plan::Precision;
use crate::model::weights::dtype;
use crate::model::weights::dtype::Stored;
use crate::model::weights::dtype::Target;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::elastic::ElasticLinear;
use crate::model::weights::elastic::Needs;
use crate::model::weights::naming::View;
use crate::model::weights::offload::Residency;
use crate::model::weights::reader::Reader;
use crate::model::weights::tensor_source::LayerName;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::TensorSource;
use crate::model::weights::tensor_source::placed;
use crate::model::weights::tensor_source::rows;
use crate::model::weights::units::units;
use crate::ops::conv2d::Conv2d;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// Bytes of a mapped file that become elements of a tensor.
struct Source<'f> {
    bytes: &'f [u8],
    stored: Stored,
    scale: f32,
}

impl Reader<'_> {
    /// A whole tensor as f32, row-major, whatever its shape.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] if there is no such tensor or its dtype is none of weights.
    pub fn to_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        let shape = self.shape(name).unwrap_or_default().to_vec();
        let view = self.view(name, &shape)?;
        let len = shape.iter().product();
        let tensor: Tensor<f32, 1> = self.place(&Device::Cpu, [len], &[(view, 0..len)])?;
        Ok(tensor.host().to_vec())
    }

    /// The elements of `pieces` (ranges of elements), one after the other, as a tensor on `device`;
    /// an empty one while checking.
    fn place<T, const R: usize>(
        &self,
        device: &Device,
        shape: [usize; R],
        pieces: &[(View, Range<usize>)],
    ) -> Result<Tensor<T, R>>
    where
        T: Target + Element<Host = T, Cuda = T>,
    {
        if self.checking {
            return Ok(Tensor::zeros([0; R]));
        }
        let mut sources = Vec::new();
        for (view, range) in pieces {
            let unfit =
                || self.checkpoint.error(&view.stored, Stored::NAMES, format!("{:?}", view.dtype));
            let stored = Stored::of(view.dtype).ok_or_else(unfit)?;
            let shard = self.checkpoint.shard_of(&view.stored);
            for bytes in view.slices(shard, range, stored.size()) {
                sources.push(Source { bytes, stored, scale: view.scale });
            }
        }
        self.checkpoint.expect_whole()?;
        let tensor =
            Tensor::filled(device, shape, |range, out| convert(out, range.start, &sources))?;
        self.checkpoint.expect_whole()?;
        Ok(tensor)
    }
}

/// Fills `out` with the elements from `first` on of all sources together.
fn convert<T: Target>(mut out: &mut [T], first: usize, sources: &[Source<'_>]) {
    let mut skip = first;
    for source in sources {
        let size = source.stored.size();
        let len = source.bytes.len() / size;
        let start = skip.min(len);
        let take = out.len().min(len - start);
        let (head, rest) = out.split_at_mut(take);
        let bytes = &source.bytes[start * size..(start + take) * size];
        dtype::convert(head, bytes, source.stored, source.scale);
        (skip, out) = (skip - start, rest);
    }
    debug_assert!(out.is_empty(), "shapes were checked, so the pieces fill the tensor");
}

impl TensorSource for Reader<'_> {
    fn elastic(
        &mut self,
        linear: Linear,
        shape: [usize; 2],
        needs: &Needs,
        inputs: Option<&[f32]>,
        layer: LayerName<'_>,
    ) -> Result<ElasticLinear> {
        let missing = |kept| match self.width_biases {
            Some(biases) => biases.of(layer.name, kept, shape, layer.head_dim),
            None => Ok(Vec::new()),
        };
        if self.checking {
            for form in &needs.forms {
                missing(form.columns)?;
            }
        }
        ElasticLinear::of(linear, needs, inputs, missing)
    }

    /// From a prepared model's e4m3 where nothing else is needed of the layer.
    fn block_linear(
        &mut self,
        parts: &[Part],
        cols: usize,
        layer: &str,
        needs: &Needs,
    ) -> Result<Linear> {
        let Some(stored) = self.stored_fp8.filter(|_| !needs.has(Precision::Bf16)) else {
            return self.linear(parts, cols);
        };
        let shape = [rows(parts), cols];
        if self.checking {
            stored.check(layer, shape)?;
            return self.linear(parts, cols);
        }
        let weight = Weight::Fp8(stored.weight(&self.placement.device, layer, shape)?);
        Ok(Linear { weight, bias: Some(self.bias(parts)?) })
    }

    fn units(&mut self, linears: &[&Linear], rows: Range<usize>, name: &str) -> Result<Vec<f32>> {
        match self.stored_fp8 {
            Some(stored) => stored.units(name, rows.len()),
            None => units(linears, rows),
        }
    }

    fn matrix(&mut self, parts: &[Part], cols: usize) -> Result<Weight> {
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            let view = self.view(&format!("{}.weight", part.name), &[part.rows, cols])?;
            pieces.push((view, part.take.start * cols..part.take.end * cols));
        }
        let shape = [rows(parts), cols];
        let device = &self.placement.device;
        Ok(match self.placement.dtype {
            WeightDtype::F32 => Weight::F32(self.place(device, shape, &pieces)?),
            WeightDtype::Bf16 => Weight::Bf16(self.place(device, shape, &pieces)?),
        })
    }

    fn bias(&mut self, parts: &[Part]) -> Result<Tensor<f32, 1>> {
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            let view = self.view(&format!("{}.bias", part.name), &[part.rows])?;
            pieces.push((view, part.take.clone()));
        }
        self.place(&self.placement.device, [rows(parts)], &pieces)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor<f32, 1>> {
        let view = self.view(name, &[len])?;
        self.place(&self.placement.device, [len], &[(view, 0..len)])
    }

    fn residency(&self) -> Residency {
        self.placement.residency
    }

    fn host_table(&mut self, name: &str, shape: [usize; 2]) -> Result<Tensor<f32, 2>> {
        let view = self.view(name, &shape)?;
        self.place(&Device::Cpu, shape, &[(view, 0..shape[0] * shape[1])])
    }

    fn conv2d(&mut self, name: &str, shape: [usize; 4]) -> Result<Conv2d> {
        let [out_channels, in_channels, kernel, width] = shape;
        let view = self.view(&format!("{name}.weight"), &shape)?;
        let bias = self.vector(&format!("{name}.bias"), out_channels)?;
        let patch = in_channels * kernel * width;
        let len = out_channels * patch;
        let stored: Tensor<f32, 1> = self.place(&Device::Cpu, [len], &[(view, 0..len)])?;
        let rows = if self.checking { 0 } else { out_channels };
        let mut data = vec![0.0; rows * patch];
        // Per output channel a transpose from [C_in, kh * kw] to [kh * kw, C_in].
        let filters = stored.host().par_chunks(patch.max(1));
        data.par_chunks_mut(patch.max(1)).zip(filters).for_each(|(out, stored)| {
            for (tap, out) in out.chunks_mut(in_channels.max(1)).enumerate() {
                let taps = stored.iter().skip(tap).step_by((kernel * width).max(1));
                out.iter_mut().zip(taps).for_each(|(out, value)| *out = *value);
            }
        });
        let weight = placed([rows, patch], data, &self.placement)?;
        Ok(Conv2d { weight, kernel, bias })
    }
}

impl View {
    /// The bytes of the elements in `range`, where `size` is an element's, in `shard`.
    fn slices<'f>(
        &self,
        shard: Option<&'f [u8]>,
        range: &Range<usize>,
        size: usize,
    ) -> Vec<&'f [u8]> {
        let (mut skip, mut left) = (range.start * size, range.len() * size);
        let mut slices = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let start = skip.min(piece.len());
            let take = left.min(piece.len() - start);
            let bytes = piece.start + start..piece.start + start + take;
            slices
                .extend(shard.and_then(|shard| shard.get(bytes)).filter(|bytes| !bytes.is_empty()));
            (skip, left) = (skip - start, left - take);
        }
        slices
    }
}
