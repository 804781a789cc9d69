//! What the sizes of a network may be together, whether a JSON file says them or the shapes of its tensors.

use std::path::Path;

use crate::error::Error;
use crate::error::Result;
use crate::model::config::ClipConfig;
use crate::model::config::FluxConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;

/// No FLUX.1 model comes near; larger numbers are damage.
pub(super) const MAX_WIDTH: usize = 65_536;
pub(super) const MAX_LAYERS: usize = 1_024;
pub(super) const MAX_ROWS: usize = 1 << 24;
pub(super) const MAX_LEVELS: usize = 8;
/// Half the buckets are for each direction, half of those for exact distances.
pub(super) const MIN_BUCKETS: usize = 4;

/// Sizes that are checked against each other; errors name the file that they are from.
struct Sizes<'a> {
    path: &'a Path,
}

impl Sizes<'_> {
    fn refuse(&self, field: &str, expected: String, actual: usize) -> Result<()> {
        let (path, field) = (self.path.to_owned(), field.to_owned());
        Err(Error::Config { path, field, expected, actual: actual.to_string() })
    }

    fn in_range(&self, least: usize, most: usize, sizes: &[(&str, usize)]) -> Result<()> {
        match sizes.iter().find(|(_, size)| !(least..=most).contains(size)) {
            Some((field, size)) => {
                self.refuse(field, format!("a whole number from {least} to {most}"), *size)
            }
            None => Ok(()),
        }
    }

    /// `heads` of `of` columns each are no more than a layer may have.
    fn heads(&self, field: &str, heads: usize, of: (&str, usize)) -> Result<()> {
        match heads.checked_mul(of.1).is_some_and(|width| width <= MAX_WIDTH) {
            true => Ok(()),
            false => {
                self.refuse(field, format!("at most {MAX_WIDTH} / {} ({})", of.0, of.1), heads)
            }
        }
    }
}

impl FluxConfig {
    /// # Errors
    /// [`Error::Config`] for sizes that no model has, named as a file's at `path`.
    pub(crate) fn expect_sound(&self, path: &Path) -> Result<()> {
        let sizes = Sizes { path };
        let widths = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels()),
            ("attention_head_dim", self.attention_head_dim),
            ("num_attention_heads", self.num_attention_heads),
            ("joint_attention_dim", self.joint_attention_dim),
            ("pooled_projection_dim", self.pooled_projection_dim),
        ];
        sizes.in_range(1, MAX_WIDTH, &widths)?;
        let layers =
            [("num_layers", self.num_layers), ("num_single_layers", self.num_single_layers)];
        sizes.in_range(1, MAX_LAYERS, &layers)?;
        let head = ("attention_head_dim", self.attention_head_dim);
        sizes.heads("num_attention_heads", self.num_attention_heads, head)
    }
}

impl VaeConfig {
    /// # Errors
    /// As [`FluxConfig::expect_sound`].
    pub(crate) fn expect_sound(&self, path: &Path) -> Result<()> {
        let sizes = Sizes { path };
        let widths = [
            ("latent_channels", self.latent_channels),
            ("norm_num_groups", self.norm_num_groups),
            ("sample_size", self.sample_size),
        ];
        sizes.in_range(1, MAX_WIDTH, &widths)?;
        sizes.in_range(1, MAX_LAYERS, &[("layers_per_block", self.layers_per_block)])?;
        let levels = self.block_out_channels.len();
        sizes.in_range(1, MAX_LEVELS, &[("levels in block_out_channels", levels)])?;
        let channels = self.block_out_channels.iter();
        let channels: Vec<_> = channels.map(|size| ("block_out_channels", *size)).collect();
        sizes.in_range(1, MAX_WIDTH, &channels)
    }
}

impl ClipConfig {
    /// # Errors
    /// As [`FluxConfig::expect_sound`].
    pub(crate) fn expect_sound(&self, path: &Path) -> Result<()> {
        let sizes = Sizes { path };
        let rows = [
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        sizes.in_range(1, MAX_ROWS, &rows)?;
        let widths = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
        ];
        sizes.in_range(1, MAX_WIDTH, &widths)?;
        sizes.in_range(1, MAX_LAYERS, &[("num_hidden_layers", self.num_hidden_layers)])?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of hidden_size ({})", self.hidden_size);
            return sizes.refuse("num_attention_heads", expected, self.num_attention_heads);
        }
        Ok(())
    }
}

impl T5Config {
    /// # Errors
    /// As [`FluxConfig::expect_sound`].
    pub(crate) fn expect_sound(&self, path: &Path) -> Result<()> {
        let sizes = Sizes { path };
        let distance = ("relative_attention_max_distance", self.relative_attention_max_distance);
        sizes.in_range(1, MAX_ROWS, &[("vocab_size", self.vocab_size), distance])?;
        let widths = [
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("num_heads", self.num_heads),
            ("d_ff", self.d_ff),
        ];
        sizes.in_range(1, MAX_WIDTH, &widths)?;
        sizes.in_range(1, MAX_LAYERS, &[("num_layers", self.num_layers)])?;
        let buckets = self.relative_attention_num_buckets;
        sizes.in_range(MIN_BUCKETS, MAX_WIDTH, &[("relative_attention_num_buckets", buckets)])?;
        sizes.heads("num_heads", self.num_heads, ("d_kv", self.d_kv))?;
        let exact = buckets / 4;
        if self.relative_attention_max_distance <= exact {
            let expected = format!("more than a quarter of the buckets ({exact})");
            return sizes.refuse(distance.0, expected, distance.1);
        }
        Ok(())
    }
}
