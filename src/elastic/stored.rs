//! Writes the block layers of a transformer as they are multiplied in e4m3.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::View;

use crate::error::Result;
use crate::files;
use crate::model::weights::flux::FluxWeights;
use crate::model::weights::stored_fp8;
use crate::ops::gemm::Weight;

/// A tensor in host memory.
struct Stored<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl Stored<'_> {
    fn floats(values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: vec![values.len()], bytes: Cow::Owned(bytes) }
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes what of `weights`, which are on the CPU, is in e4m3.
///
/// # Errors
/// [`crate::Error::Write`].
pub fn write_fp8(weights: &FluxWeights, path: &Path) -> Result<()> {
    let mut tensors = Vec::new();
    for block in stored_fp8::blocks(weights) {
        for (name, layer) in block.layers {
            let Some(Weight::Fp8(quantized)) = layer.first().map(|linear| &linear.weight) else {
                continue;
            };
            let view = quantized.view();
            let bytes = Cow::Borrowed(view.values.host());
            let shape = view.shape().to_vec();
            let numbers = Stored { dtype: Dtype::F8_E4M3, shape, bytes };
            tensors.push((stored_fp8::values(&name), numbers));
            tensors.push((stored_fp8::scales(&name), Stored::floats(view.scales.row(0))));
        }
        if let Some(units) = block.of.first() {
            for (name, units) in block.units.iter().zip([&units.v, &units.mlp]) {
                tensors.push((stored_fp8::units(name), Stored::floats(units.host())));
            }
        }
    }
    files::write_safetensors(path, tensors, HashMap::new())
}
