//! A prepared transformer's `e4m3.safetensors`: block layers as they are multiplied in e4m3, fused, with
//! their scales and the units of what goes between them, so that loading converts nothing.

use std::collections::HashSet;

use safetensors::Dtype;

use crate::device::Device;
use crate::device::Quantized;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::error::Result;
use crate::files::File;
use crate::model::weights::checkpoint::Checkpoint;
use crate::model::weights::elastic::ElasticLinear;
use crate::model::weights::flux::FluxWeights;
use crate::model::weights::units::ElasticUnits;

/// The file beside a prepared transformer's weights.
pub const FILE: &str = "e4m3.safetensors";

/// The name of a layer's numbers, `[N, K]`.
#[must_use]
pub fn values(layer: &str) -> String {
    format!("{layer}.e4m3")
}

/// The name of a layer's scales, `[N]`.
#[must_use]
pub fn scales(layer: &str) -> String {
    format!("{layer}.scales")
}

/// The name of the units of outputs, called as the layer that reads them.
#[must_use]
pub fn units(reader: &str) -> String {
    format!("{reader}.input_units")
}

/// The file, open.
#[derive(Debug)]
pub struct StoredFp8 {
    checkpoint: Checkpoint,
}

impl StoredFp8 {
    /// Opens the file.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(file: &File) -> Result<Self> {
        Ok(Self { checkpoint: Checkpoint::open(file)? })
    }

    /// A tensor's bytes, which must be of that format and shape.
    fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8]> {
        let checkpoint = &self.checkpoint;
        let (Some(stored), Some(bytes)) = (checkpoint.stored(name), checkpoint.bytes_of(name))
        else {
            let expected = format!("a tensor of shape {shape:?}");
            return Err(checkpoint.error(name, expected, "no such tensor"));
        };
        if stored.dtype != dtype || stored.shape != shape {
            let found = format!("{:?} {:?}", stored.dtype, stored.shape);
            return Err(checkpoint.error(name, format!("{dtype:?} {shape:?}"), found));
        }
        checkpoint.expect_whole()?;
        Ok(bytes)
    }

    /// Numbers that others are multiplied or divided by.
    fn floats(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let bytes = self.bytes(name, Dtype::F32, &[len])?;
        let floats = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let floats: Vec<f32> = floats.collect();
        self.checkpoint.expect_whole()?;
        match floats.iter().find(|float| !float.is_normal() || **float < 0.0) {
            Some(float) => {
                let expected = "numbers above 0 that are finite";
                Err(self.checkpoint.error(name, expected, float.to_string()))
            }
            None => Ok(floats),
        }
    }

    /// Fails if there is a tensor that no block of such a transformer has.
    ///
    /// # Errors
    /// [`crate::Error::Weight`].
    pub fn expect_no_more(&self, double_blocks: usize, single_blocks: usize) -> Result<()> {
        let double =
            (0..double_blocks).flat_map(|block| DOUBLE.map(|name| double_layer(block, name)));
        let single =
            (0..single_blocks).flat_map(|block| SINGLE.map(|name| single_layer(block, name)));
        let layers = double.chain(single).flat_map(|layer| [values(&layer), scales(&layer)]);
        let blocks = (0..double_blocks + single_blocks)
            .flat_map(|block| unit_names(block, double_blocks))
            .map(|reader| units(&reader));
        let known: HashSet<String> = layers.chain(blocks).collect();
        self.checkpoint.expect_only(|name| known.contains(name))
    }

    /// Checks that a layer is there.
    ///
    /// # Errors
    /// [`crate::Error::Weight`].
    pub(super) fn check(&self, layer: &str, [n, k]: [usize; 2]) -> Result<()> {
        self.bytes(&values(layer), Dtype::F8_E4M3, &[n, k])?;
        self.floats(&scales(layer), n).map(|_| ())
    }

    /// A layer's weight on `device`.
    ///
    /// # Errors
    /// [`crate::Error::Weight`]; [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub(super) fn weight(
        &self,
        device: &Device,
        layer: &str,
        shape: [usize; 2],
    ) -> Result<Quantized> {
        let bytes = self.bytes(&values(layer), Dtype::F8_E4M3, &shape)?;
        let numbers = Tensor::filled(device, shape, |range, out: &mut [u8]| {
            out.copy_from_slice(&bytes[range]);
        })?;
        self.checkpoint.expect_whole()?;
        let scales = self.floats(&scales(layer), shape[0])?;
        let scales = Tensor::from_host([1, shape[0]], scales).to_device(device)?;
        Ok(Quantized::of(numbers, scales, Scaling::Row))
    }

    /// The units of the outputs that `reader` reads.
    ///
    /// # Errors
    /// [`crate::Error::Weight`].
    pub(super) fn units(&self, reader: &str, len: usize) -> Result<Vec<f32>> {
        self.floats(&units(reader), len)
    }
}

/// A block's layers and units by their names.
#[derive(Debug)]
pub struct StoredBlock<'w> {
    /// Layers, which must be loaded in e4m3 at full width.
    pub layers: Vec<(String, &'w ElasticLinear)>,
    /// What the units are of: v, then the hidden layer.
    pub units: [String; 2],
    /// The units.
    pub of: &'w ElasticUnits,
}

/// What v's and the hidden layer's units of block `block` are called; double ones come first.
#[must_use]
pub fn unit_names(block: usize, double_blocks: usize) -> [String; 2] {
    let prefix = match block < double_blocks {
        true => format!("transformer_blocks.{block}"),
        false => format!("single_transformer_blocks.{}", block - double_blocks),
    };
    ["v", "mlp"].map(|part| format!("{prefix}.{part}"))
}

/// Layers of a double block; q, k and v by q.
const DOUBLE: [&str; 8] = [
    "attn.to_q",
    "attn.to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
    "attn.add_q_proj",
    "attn.to_add_out",
    "ff_context.net.0.proj",
    "ff_context.net.2",
];
/// Layers of a single block; what is fused with q by q.
const SINGLE: [&str; 2] = ["attn.to_q", "proj_out"];

fn double_layer(block: usize, name: &str) -> String {
    format!("transformer_blocks.{block}.{name}")
}

fn single_layer(block: usize, name: &str) -> String {
    format!("single_transformer_blocks.{block}.{name}")
}

/// All blocks of a transformer.
#[must_use]
pub fn blocks(weights: &FluxWeights) -> Vec<StoredBlock<'_>> {
    let double_blocks = weights.double.len();
    let double = weights.double.iter().enumerate().map(|(block, of)| {
        let layers = [&of.img, &of.txt].map(|of| [&of.qkv, &of.out, &of.mlp_up, &of.mlp_down]);
        let names = DOUBLE.map(|name| double_layer(block, name));
        let layers = names.into_iter().zip(layers.into_iter().flatten()).collect();
        StoredBlock { layers, units: unit_names(block, double_blocks), of: &of.units }
    });
    let single = weights.single.iter().enumerate().map(|(block, of)| {
        let names = SINGLE.map(|name| single_layer(block, name));
        let layers = names.into_iter().zip([&of.linear1, &of.linear2]).collect();
        let units = unit_names(double_blocks + block, double_blocks);
        StoredBlock { layers, units, of: &of.units }
    });
    double.chain(single).collect()
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::files;

    /// A layer of one output whose scale is this.
    fn stored(name: &str, scale: f32) -> (tempfile::TempDir, StoredFp8) {
        let folder = tempfile::tempdir().unwrap();
        let scale = scale.to_le_bytes();
        let view = TensorView::new(Dtype::F32, vec![1], &scale).unwrap();
        let numbers = TensorView::new(Dtype::F8_E4M3, vec![1, 2], &[0x38, 0x38]).unwrap();
        let file = safetensors::serialize([(scales(name), view), (values(name), numbers)], None);
        let path = folder.path().join(FILE);
        files::write_atomic(&path, &file.unwrap()).unwrap();
        let stored = StoredFp8::open(&File::Disk(path)).unwrap();
        (folder, stored)
    }

    #[test]
    fn scales_are_above_0_and_finite() {
        let layer = single_layer(0, "proj_out");
        stored(&layer, 0.5).1.check(&layer, [1, 2]).unwrap();
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
            let error = stored(&layer, scale).1.check(&layer, [1, 2]).unwrap_err().to_string();
            assert!(error.contains(&scales(&layer)) && error.contains("above 0"), "{error}");
        }
    }

    #[test]
    fn layers_of_no_block_are_refused() {
        let layer = single_layer(1, "proj_out");
        let (_folder, stored) = stored(&layer, 1.0);
        stored.expect_no_more(0, 2).unwrap();
        let error = stored.expect_no_more(9, 1).unwrap_err().to_string();
        assert!(error.contains(&layer) && error.contains("no such tensor"), "{error}");
    }
}
