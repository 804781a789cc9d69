//! What a layer that leaves out some of its inputs adds to its bias, from a prepared model's
//! `widths.safetensors`: the mean, over calibration, of what those inputs would have added.

use std::collections::HashSet;

use crate::device::kept::Kept;
use crate::error::Result;
use crate::files::File;
use crate::model::weights::checkpoint::Checkpoint;

/// The file beside a prepared transformer's weights.
pub const FILE: &str = "widths.safetensors";
/// MLP widths are multiples of this: what a kernel computes at a time.
pub const MLP_STEP: usize = 128;

/// The name of a layer's table `[heads - 1, N]`: row h - 1 is added when the first h heads are kept.
#[must_use]
pub fn by_heads(layer: &str) -> String {
    format!("{layer}.bias_by_heads")
}

/// The name of a layer's table `[neurons / 128 - 1, N]`: row w - 1 is added when the first 128 w neurons
/// are kept.
#[must_use]
pub fn by_neurons(layer: &str) -> String {
    format!("{layer}.bias_by_neurons")
}

/// The tables of all layers.
#[derive(Debug)]
pub struct WidthBiases {
    checkpoint: Checkpoint,
}

impl WidthBiases {
    /// Opens the file.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(file: &File) -> Result<Self> {
        Ok(Self { checkpoint: Checkpoint::open(file)? })
    }

    /// Fails if there is a table of a layer that such a transformer does not have.
    ///
    /// # Errors
    /// [`crate::Error::Weight`].
    pub fn expect_no_more(&self, double_blocks: usize, single_blocks: usize) -> Result<()> {
        const READING: [&str; 4] =
            ["attn.to_add_out", "ff_context.net.2", "attn.to_out.0", "ff.net.2"];
        let double = (0..double_blocks)
            .flat_map(|block| READING.map(|name| format!("transformer_blocks.{block}.{name}")));
        let single =
            (0..single_blocks).map(|block| format!("single_transformer_blocks.{block}.proj_out"));
        let tables = double.chain(single).flat_map(|layer| [by_heads(&layer), by_neurons(&layer)]);
        let known: HashSet<String> = tables.collect();
        self.checkpoint.expect_only(|name| known.contains(name))
    }

    /// What layer `layer`, of `outputs` outputs, of whose `inputs` inputs `kept` are left, adds to its
    /// bias; `head_dim` columns are a head.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] for a table that is missing or misshapen.
    pub fn of(
        &self,
        layer: &str,
        kept: Kept,
        [outputs, inputs]: [usize; 2],
        head_dim: usize,
    ) -> Result<Vec<f32>> {
        let mut sum = vec![0.0; outputs];
        let attention = kept.parts * kept.of;
        if kept.first < kept.of {
            let heads = [kept.first / head_dim, kept.of / head_dim];
            self.add(&mut sum, &by_heads(layer), heads)?;
        }
        if kept.rest < inputs - attention {
            let steps = [kept.rest / MLP_STEP, (inputs - attention) / MLP_STEP];
            self.add(&mut sum, &by_neurons(layer), steps)?;
        }
        Ok(sum)
    }

    /// Adds the row of a table for the first `kept` of `all`.
    fn add(&self, sum: &mut [f32], name: &str, [kept, all]: [usize; 2]) -> Result<()> {
        let checkpoint = &self.checkpoint;
        let shape = [all.saturating_sub(1), sum.len()];
        let (Some(stored), Some(bytes)) = (checkpoint.stored(name), checkpoint.bytes_of(name))
        else {
            let expected = format!("a tensor of shape {shape:?}");
            return Err(checkpoint.error(name, expected, "no such tensor"));
        };
        if stored.dtype != safetensors::Dtype::F32 || stored.shape != shape {
            let found = format!("{:?} {:?}", stored.dtype, stored.shape);
            return Err(checkpoint.error(name, format!("F32 {shape:?}"), found));
        }
        checkpoint.expect_whole()?;
        let width = size_of_val(sum);
        let row = bytes.get((kept.max(1) - 1) * width..).unwrap_or_default();
        for (sum, bytes) in sum.iter_mut().zip(row.as_chunks::<4>().0) {
            *sum += f32::from_le_bytes(*bytes);
        }
        checkpoint.expect_whole()?;
        match sum.iter().find(|sum| !sum.is_finite()) {
            Some(found) => Err(checkpoint.error(name, "finite numbers", found.to_string())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::files;

    /// Two heads of 2 columns and 256 neurons.
    fn tables(rows: usize) -> (tempfile::TempDir, WidthBiases) {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> =
            [1.0_f32, 2.0].repeat(rows).into_iter().flat_map(f32::to_le_bytes).collect();
        let view = || TensorView::new(Dtype::F32, vec![rows, 2], &bytes).unwrap();
        let file =
            safetensors::serialize([(by_heads("out"), view()), (by_neurons("out"), view())], None);
        let path = folder.path().join(FILE);
        files::write_atomic(&path, &file.unwrap()).unwrap();
        let biases = WidthBiases::open(&File::Disk(path)).unwrap();
        (folder, biases)
    }

    #[test]
    fn what_is_left_out_is_added() {
        let (_folder, biases) = tables(1);
        let kept = |heads: usize, rest| Kept { parts: 1, of: 4, first: 2 * heads, rest };
        let of = |kept| biases.of("out", kept, [2, 4 + 256], 2).unwrap();
        assert_eq!(of(kept(2, 256)), [0.0, 0.0]);
        assert_eq!(of(kept(1, 256)), [1.0, 2.0]);
        assert_eq!(of(kept(2, 128)), [1.0, 2.0]);
        assert_eq!(of(kept(1, 128)), [2.0, 4.0]);
    }

    #[test]
    fn tables_of_other_layers_and_infinite_ones_are_refused() {
        let (_folder, biases) = tables(1);
        let error = biases.expect_no_more(2, 2).unwrap_err().to_string();
        assert!(error.contains("out.bias_by_heads") && error.contains("no such tensor"), "{error}");
        let kept = Kept { parts: 1, of: 4, first: 2, rest: 256 };
        let mut sum = [f32::MAX; 2];
        biases.add(&mut sum, &by_heads("out"), [1, 2]).unwrap();
        sum[0] = f32::INFINITY;
        let error = biases.add(&mut sum, &by_heads("out"), [1, 2]).unwrap_err().to_string();
        assert!(error.contains("finite numbers"), "{error}");
        assert_eq!(biases.of("out", kept, [2, 4 + 256], 2).unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn tables_that_do_not_fit_are_refused() {
        let (_folder, biases) = tables(2);
        let kept = Kept { parts: 1, of: 4, first: 2, rest: 0 };
        let error = biases.of("out", kept, [2, 4], 2).unwrap_err().to_string();
        assert!(error.contains("out.bias_by_heads") && error.contains("F32 [1, 2]"), "{error}");
        let error = biases.of("other", kept, [2, 4], 2).unwrap_err().to_string();
        assert!(error.contains("other.bias_by_heads"), "{error}");
    }
}
