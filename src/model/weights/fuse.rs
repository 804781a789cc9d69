//! Tensors straight from the mapped file into their final place: fused, converted, on all cores.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use crate::device::Tensor;
use crate::error::Result;
use crate::model::weights::dtype;
use crate::model::weights::dtype::Stored;
use crate::model::weights::dtype::Target;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::naming::View;
use crate::model::weights::reader::Reader;
use crate::ops::conv2d::Conv2d;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// Rows of a layer that become rows of a fused one.
#[derive(Debug)]
pub(crate) struct Part {
    /// The layer, without `.weight`.
    name: String,
    /// All its rows.
    rows: usize,
    /// Those that are taken.
    take: Range<usize>,
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

impl Reader<'_> {
    /// A whole tensor as f32, row-major, whatever its shape.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] if there is no such tensor or its dtype is none of weights.
    pub fn to_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        let shape = self.shape(name).unwrap_or_default().to_vec();
        let view = self.view(name, &shape)?;
        self.convert(&[(view, 0..shape.iter().product())])
    }

    /// A linear layer whose rows are those of `parts`, one after the other.
    pub(crate) fn linear(
        &mut self,
        parts: &[Part],
        cols: usize,
        dtype: WeightDtype,
    ) -> Result<Linear> {
        let weight = self.matrix(parts, cols, dtype)?;
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            let view = self.view(&format!("{}.bias", part.name), &[part.rows])?;
            pieces.push((view, part.take.clone()));
        }
        let rows = pieces.iter().map(|(_, take)| take.len()).sum();
        let bias = Tensor::from_host([self.taken(rows)], self.convert(&pieces)?);
        Ok(Linear { weight, bias: Some(bias) })
    }

    /// As [`Reader::linear`], for layers without a bias.
    pub(crate) fn linear_without_bias(
        &mut self,
        parts: &[Part],
        cols: usize,
        dtype: WeightDtype,
    ) -> Result<Linear> {
        Ok(Linear { weight: self.matrix(parts, cols, dtype)?, bias: None })
    }

    /// A matrix whose rows are those of `parts`.
    pub(crate) fn matrix(
        &mut self,
        parts: &[Part],
        cols: usize,
        dtype: WeightDtype,
    ) -> Result<Weight> {
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            let view = self.view(&format!("{}.weight", part.name), &[part.rows, cols])?;
            pieces.push((view, part.take.start * cols..part.take.end * cols));
        }
        let rows = parts.iter().map(|part| part.take.len()).sum();
        let shape = [self.taken(rows), cols];
        Ok(match dtype {
            WeightDtype::F32 => {
                Weight::F32(Tensor::from_host(shape, self.convert::<f32>(&pieces)?))
            }
            WeightDtype::Bf16 => {
                Weight::Bf16(Tensor::from_host(shape, self.convert::<bf16>(&pieces)?))
            }
        })
    }

    /// A vector of f32.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Tensor<f32, 1>> {
        let view = self.view(name, &[len])?;
        Ok(Tensor::from_host([self.taken(len)], self.convert(&[(view, 0..len)])?))
    }

    /// A table of f32 whatever the matrices are kept in.
    pub(crate) fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<Tensor<f32, 2>> {
        let view = self.view(name, &shape)?;
        let data = self.convert(&[(view, 0..shape[0] * shape[1])])?;
        Ok(Tensor::from_host([self.taken(shape[0]), shape[1]], data))
    }

    /// A convolution; `shape` is `[C_out, C_in, kernel_h, kernel_w]`, as in the checkpoint.
    pub(crate) fn conv2d(&mut self, name: &str, shape: [usize; 4]) -> Result<Conv2d> {
        let [out_channels, in_channels, height, width] = shape;
        let view = self.view(&format!("{name}.weight"), &shape)?;
        let stored: Vec<f32> = self.convert(&[(view, 0..shape.iter().product())])?;
        let filter = (in_channels * height * width).max(1);
        let mut data = vec![0.0; stored.len()];
        // Per output channel a transpose from [C_in, kh * kw] to [kh * kw, C_in].
        data.par_chunks_mut(filter).zip(stored.par_chunks(filter)).for_each(|(out, stored)| {
            for (tap, out) in out.chunks_mut(in_channels.max(1)).enumerate() {
                let taps = stored.iter().skip(tap).step_by((height * width).max(1));
                out.iter_mut().zip(taps).for_each(|(out, value)| *out = *value);
            }
        });
        let weight =
            Tensor::from_host([self.taken(out_channels), height, width, in_channels], data);
        Ok(Conv2d { weight, bias: self.vector(&format!("{name}.bias"), out_channels)? })
    }

    /// While checking nothing is taken: tensors stay empty.
    fn taken(&self, rows: usize) -> usize {
        if self.checking { 0 } else { rows }
    }

    /// The elements of `pieces` (ranges of elements), one after the other; none while checking.
    fn convert<T: Target>(&self, pieces: &[(View, Range<usize>)]) -> Result<Vec<T>> {
        if self.checking {
            return Ok(Vec::new());
        }
        let total = pieces.iter().map(|(_, range)| range.len()).sum();
        let mut data = T::zeros(total);
        let mut rest = &mut data[..];
        for (view, range) in pieces {
            let unfit =
                || self.checkpoint.error(&view.stored, Stored::NAMES, format!("{:?}", view.dtype));
            let stored = Stored::of(view.dtype).ok_or_else(unfit)?;
            for bytes in view.slices(self.checkpoint.shard_of(&view.stored), range, stored.size()) {
                let (out, after) = rest.split_at_mut(bytes.len() / stored.size());
                dtype::convert(out, bytes, stored, view.scale);
                rest = after;
            }
        }
        debug_assert!(rest.is_empty(), "shapes were checked, so the pieces fill the tensor");
        Ok(data)
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
