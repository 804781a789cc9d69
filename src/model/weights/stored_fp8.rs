//! A prepared transformer's `e4m3.safetensors`: block layers as they are multiplied in e4m3, fused, with
//! their scales and the units of what goes between them, so that loading converts nothing.

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

    fn floats(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let bytes = self.bytes(name, Dtype::F32, &[len])?;
        let floats = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let floats = floats.collect();
        self.checkpoint.expect_whole()?;
        Ok(floats)
    }

    /// Checks that a layer is there.
    ///
    /// # Errors
    /// [`crate::Error::Weight`].
    pub(super) fn check(&self, layer: &str, [n, k]: [usize; 2]) -> Result<()> {
        self.bytes(&values(layer), Dtype::F8_E4M3, &[n, k])?;
        self.bytes(&scales(layer), Dtype::F32, &[n]).map(|_| ())
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

/// All blocks of a transformer.
#[must_use]
pub fn blocks(weights: &FluxWeights) -> Vec<StoredBlock<'_>> {
    let double_blocks = weights.double.len();
    let double = weights.double.iter().enumerate().map(|(block, of)| {
        let name = |name: &str| format!("transformer_blocks.{block}.{name}");
        let layers = vec![
            (name("attn.to_q"), &of.img.qkv),
            (name("attn.to_out.0"), &of.img.out),
            (name("ff.net.0.proj"), &of.img.mlp_up),
            (name("ff.net.2"), &of.img.mlp_down),
            (name("attn.add_q_proj"), &of.txt.qkv),
            (name("attn.to_add_out"), &of.txt.out),
            (name("ff_context.net.0.proj"), &of.txt.mlp_up),
            (name("ff_context.net.2"), &of.txt.mlp_down),
        ];
        StoredBlock { layers, units: unit_names(block, double_blocks), of: &of.units }
    });
    let single = weights.single.iter().enumerate().map(|(block, of)| {
        let name = |name: &str| format!("single_transformer_blocks.{block}.{name}");
        let layers = vec![(name("attn.to_q"), &of.linear1), (name("proj_out"), &of.linear2)];
        StoredBlock {
            layers,
            units: unit_names(double_blocks + block, double_blocks),
            of: &of.units,
        }
    });
    double.chain(single).collect()
}
