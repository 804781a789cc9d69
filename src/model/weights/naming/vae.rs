//! The VAE's names in the single file (`ae.safetensors`, the layout of latent-diffusion) and in
//! diffusers.

use crate::model::weights::naming::Cut;

/// Modules of the middle block.
const MID: [(&str, &str); 3] =
    [("block_1", "resnets.0"), ("block_2", "resnets.1"), ("attn_1", "attentions.0")];
/// Inside its attention.
const ATTENTION: [(&str, &str); 5] =
    [("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")];

/// How many resolution levels a single file's decoder has: its order is the reverse of diffusers'.
pub(super) fn levels<'n>(names: impl Iterator<Item = &'n str>) -> usize {
    let index = |name: &str| name.strip_prefix("decoder.up.")?.split('.').next()?.parse().ok();
    names.filter_map(index).max().map_or(0, |last: usize| last.saturating_add(1))
}

/// The diffusers name of a tensor of the single file; `None` for any other name.
pub(super) fn diffusers_name(name: &str, levels: usize) -> Option<(String, Cut)> {
    let (coder, rest) = name.split_once('.')?;
    if let Some(leaf) = rest.strip_prefix("norm_out.") {
        return Some((format!("{coder}.conv_norm_out.{leaf}"), Cut::Whole));
    }
    if let Some(rest) = rest.strip_prefix("mid.") {
        return mid(coder, rest);
    }
    let (side, rest) = rest.split_once('.')?;
    let (index, rest) = rest.split_once('.')?;
    let index: usize = index.parse().ok()?;
    let (block, resample) = match (coder, side) {
        ("encoder", "down") => (format!("encoder.down_blocks.{index}"), "down"),
        ("decoder", "up") => {
            (format!("decoder.up_blocks.{}", levels.checked_sub(index.checked_add(1)?)?), "up")
        }
        _ => return None,
    };
    if let Some(rest) = rest.strip_prefix("block.") {
        let rest = rest.replace("nin_shortcut", "conv_shortcut");
        return Some((format!("{block}.resnets.{rest}"), Cut::Whole));
    }
    let leaf = rest.strip_prefix(resample)?.strip_prefix("sample.conv.")?;
    Some((format!("{block}.{resample}samplers.0.conv.{leaf}"), Cut::Whole))
}

fn mid(coder: &str, rest: &str) -> Option<(String, Cut)> {
    let (module, rest) = rest.split_once('.')?;
    let (_, target) = MID.iter().find(|(name, _)| *name == module)?;
    let prefix = format!("{coder}.mid_block.{target}");
    if module != "attn_1" {
        return Some((
            format!("{prefix}.{}", rest.replace("nin_shortcut", "conv_shortcut")),
            Cut::Whole,
        ));
    }
    let (layer, leaf) = rest.split_once('.')?;
    let (_, layer) = ATTENTION.iter().find(|(name, _)| *name == layer)?;
    Some((format!("{prefix}.{layer}.{leaf}"), Cut::Squeezed))
}
