//! The transformer's names in the single file (BFL, ComfyUI) and in diffusers: spec of the layout
//! in diffusers `scripts/convert_flux_to_diffusers.py`.

use crate::model::weights::naming::Cut;

/// Modules outside the blocks; each has a weight and a bias.
const OUTSIDE: [(&str, &str); 9] = [
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("final_layer.linear", "proj_out"),
];
/// Modules of a double block that are one in both.
const DOUBLE: [(&str, &str); 8] = [
    ("img_mod.lin", "norm1.linear"),
    ("txt_mod.lin", "norm1_context.linear"),
    ("img_attn.proj", "attn.to_out.0"),
    ("txt_attn.proj", "attn.to_add_out"),
    ("img_mlp.0", "ff.net.0.proj"),
    ("img_mlp.2", "ff.net.2"),
    ("txt_mlp.0", "ff_context.net.0.proj"),
    ("txt_mlp.2", "ff_context.net.2"),
];
/// RMSNorms of a double block: `.scale` here, `.weight` there.
const DOUBLE_NORMS: [(&str, &str); 4] = [
    ("img_attn.norm.query_norm", "attn.norm_q"),
    ("img_attn.norm.key_norm", "attn.norm_k"),
    ("txt_attn.norm.query_norm", "attn.norm_added_q"),
    ("txt_attn.norm.key_norm", "attn.norm_added_k"),
];
const SINGLE: [(&str, &str); 2] = [("modulation.lin", "norm.linear"), ("linear2", "proj_out")];
const SINGLE_NORMS: [(&str, &str); 2] =
    [("norm.query_norm", "attn.norm_q"), ("norm.key_norm", "attn.norm_k")];

const IMG_QKV: [&str; 3] = ["attn.to_q", "attn.to_k", "attn.to_v"];
const TXT_QKV: [&str; 3] = ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"];
const LINEAR1: [&str; 4] = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"];

/// The diffusers tensors in a tensor of the single file; `None` for any other name.
pub(super) fn diffusers_names(name: &str) -> Option<Vec<(String, Cut)>> {
    let (module, leaf) = name.rsplit_once('.')?;
    if leaf == "scale" {
        let (prefix, module, double) = in_block(module)?;
        let table: &[_] = if double { &DOUBLE_NORMS } else { &SINGLE_NORMS };
        let target = find(table, module)?;
        return Some(vec![(format!("{prefix}{target}.weight"), Cut::Whole)]);
    }
    if leaf != "weight" && leaf != "bias" {
        return None;
    }
    let named = |prefix: &str, module: &str| format!("{prefix}{module}.{leaf}");
    if module == "final_layer.adaLN_modulation.1" {
        return Some(vec![(named("", "norm_out.linear"), Cut::Swapped)]);
    }
    if let Some(target) = find(&OUTSIDE, module) {
        return Some(vec![(named("", target), Cut::Whole)]);
    }
    let (prefix, module, double) = in_block(module)?;
    let thirds = |parts: [&str; 3]| {
        let part = |(part, target): (usize, &&str)| (named(&prefix, target), Cut::Third(part));
        parts.iter().enumerate().map(part).collect()
    };
    match (double, module) {
        (true, "img_attn.qkv") => Some(thirds(IMG_QKV)),
        (true, "txt_attn.qkv") => Some(thirds(TXT_QKV)),
        (false, "linear1") => {
            let part =
                |(part, target): (usize, &&str)| (named(&prefix, target), Cut::Linear1(part));
            Some(LINEAR1.iter().enumerate().map(part).collect())
        }
        _ => {
            let table: &[_] = if double { &DOUBLE } else { &SINGLE };
            let target = find(table, module)?;
            Some(vec![(named(&prefix, target), Cut::Whole)])
        }
    }
}

/// `double_blocks.7.img_mlp.0`: diffusers' prefix of that block, the rest, whether it is double.
fn in_block(module: &str) -> Option<(String, &str, bool)> {
    let double = module.strip_prefix("double_blocks.");
    let (rest, prefix) = match double {
        Some(rest) => (rest, "transformer_blocks"),
        None => (module.strip_prefix("single_blocks.")?, "single_transformer_blocks"),
    };
    let (index, module) = rest.split_once('.')?;
    Some((format!("{prefix}.{index}."), module, double.is_some()))
}

fn find(table: &[(&str, &'static str)], module: &str) -> Option<&'static str> {
    table.iter().find(|(name, _)| *name == module).map(|(_, target)| *target)
}
