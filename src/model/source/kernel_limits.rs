//! What the CUDA kernels can run: a model of other sizes is refused before it is loaded.

use crate::error::Result;
use crate::model::source::ModelConfigs;
use crate::model::source::ModelFiles;
use crate::model::source::fit::unfit;
use crate::model::weights::naming::Component;

impl ModelFiles {
    /// Checks the sizes that decide whether a kernel fits: multiples of 8 for 16-byte accesses, head
    /// sizes and channels for which there is a tile.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming file and field.
    pub fn check_kernel_limits(&self, configs: &ModelConfigs) -> Result<()> {
        let ModelConfigs { flux, vae, clip, t5, .. } = configs;
        let rule = |component, field, actual: usize, holds: bool, expected: &str| match holds {
            true => Ok(()),
            false => {
                let expected = format!("{expected} on CUDA; --device cpu has no such limit");
                Err(unfit(self.component(component), field, expected, actual))
            }
        };
        let head = flux.attention_head_dim;
        rule(
            Component::Transformer,
            "attention_head_dim",
            head,
            [16, 32, 64, 128].contains(&head),
            "16, 32, 64 or 128",
        )?;
        for (component, field, size) in [
            (Component::Transformer, "in_channels", flux.in_channels),
            (Component::Transformer, "out_channels", flux.out_channels()),
            (Component::Transformer, "joint_attention_dim", flux.joint_attention_dim),
            (Component::Transformer, "pooled_projection_dim", flux.pooled_projection_dim),
            (Component::TextEncoder, "hidden_size", clip.hidden_size),
            (Component::TextEncoder, "intermediate_size", clip.intermediate_size),
            (Component::TextEncoder2, "d_ff", t5.d_ff),
            (Component::TextEncoder2, "d_kv", t5.num_heads * t5.d_kv),
        ] {
            rule(component, field, size, size.is_multiple_of(8), "a multiple of 8")?;
        }
        let clip_head = clip.hidden_size / clip.num_attention_heads.max(1);
        for (component, field, size) in [
            (Component::TextEncoder, "num_attention_heads", clip_head),
            (Component::TextEncoder2, "d_kv", t5.d_kv),
        ] {
            rule(component, field, size, size <= 128, "heads of at most 128")?;
        }
        let field = "block_out_channels";
        for &channels in &vae.block_out_channels {
            let most = if channels.is_multiple_of(8) { 1024 } else { 256 };
            let expected = "at most 1024 channels in multiples of 8, or at most 256";
            rule(Component::Vae, field, channels, channels <= most, expected)?;
        }
        let last = vae.block_out_channels.last().copied().unwrap_or(0);
        let fits = last.is_multiple_of(8) && last <= 512;
        let fits = fits || !vae.mid_block_add_attention;
        rule(Component::Vae, field, last, fits, "a last level of at most 512, a multiple of 8,")
    }
}
