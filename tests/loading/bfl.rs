//! Writes a diffusers transformer as a BFL single file: the way back, written out once more.

use crate::writer::Tensor;
use crate::writer::Writer;

/// Whole modules: diffusers, BFL.
const MODULES: [(&str, &str); 10] = [
    ("x_embedder", "img_in"),
    ("context_embedder", "txt_in"),
    ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
    ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
    ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
    ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
    ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
    ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"),
    ("proj_out", "final_layer.linear"),
];
/// Modules of a double block.
const DOUBLE: [(&[&str], &str); 10] = [
    (&["norm1.linear"], "img_mod.lin"),
    (&["norm1_context.linear"], "txt_mod.lin"),
    (&["attn.to_q", "attn.to_k", "attn.to_v"], "img_attn.qkv"),
    (&["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"], "txt_attn.qkv"),
    (&["attn.to_out.0"], "img_attn.proj"),
    (&["attn.to_add_out"], "txt_attn.proj"),
    (&["ff.net.0.proj"], "img_mlp.0"),
    (&["ff.net.2"], "img_mlp.2"),
    (&["ff_context.net.0.proj"], "txt_mlp.0"),
    (&["ff_context.net.2"], "txt_mlp.2"),
];
const DOUBLE_NORMS: [(&str, &str); 4] = [
    ("attn.norm_q", "img_attn.norm.query_norm"),
    ("attn.norm_k", "img_attn.norm.key_norm"),
    ("attn.norm_added_q", "txt_attn.norm.query_norm"),
    ("attn.norm_added_k", "txt_attn.norm.key_norm"),
];
const SINGLE: [(&[&str], &str); 3] = [
    (&["norm.linear"], "modulation.lin"),
    (&["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"], "linear1"),
    (&["proj_out"], "linear2"),
];
const SINGLE_NORMS: [(&str, &str); 2] =
    [("attn.norm_q", "norm.query_norm"), ("attn.norm_k", "norm.key_norm")];

pub(crate) fn single_file(mut diffusers: Writer, double: usize, single: usize) -> Writer {
    let mut bfl = Writer::default();
    for (theirs, ours) in MODULES {
        if diffusers.tensors.iter().any(|(name, _)| name.starts_with(theirs)) {
            fuse(&mut bfl, &mut diffusers, &[theirs.into()], ours);
        }
    }
    for leaf in ["weight", "bias"] {
        let tensor = bfl.get(&format!("final_layer.adaLN_modulation.1.{leaf}"));
        let half = tensor.bytes.len() / 2;
        tensor.bytes.rotate_left(half);
    }
    let mut block =
        |theirs: &str, ours: &str, modules: &[(&[&str], &str)], norms: &[(&str, &str)]| {
            for (parts, module) in modules {
                let parts: Vec<String> =
                    parts.iter().map(|part| format!("{theirs}.{part}")).collect();
                fuse(&mut bfl, &mut diffusers, &parts, &format!("{ours}.{module}"));
            }
            for (norm, module) in norms {
                let tensor = diffusers.get(&format!("{theirs}.{norm}.weight")).clone();
                bfl.tensors.push((format!("{ours}.{module}.scale"), tensor));
            }
        };
    for i in 0..double {
        let (theirs, ours) = (format!("transformer_blocks.{i}"), format!("double_blocks.{i}"));
        block(&theirs, &ours, &DOUBLE, &DOUBLE_NORMS);
    }
    for i in 0..single {
        let (theirs, ours) =
            (format!("single_transformer_blocks.{i}"), format!("single_blocks.{i}"));
        block(&theirs, &ours, &SINGLE, &SINGLE_NORMS);
    }
    bfl
}

/// The rows of several layers as one layer.
fn fuse(out: &mut Writer, from: &mut Writer, parts: &[String], name: &str) {
    for leaf in ["weight", "bias"] {
        let tensors: Vec<Tensor> =
            parts.iter().map(|part| from.get(&format!("{part}.{leaf}")).clone()).collect();
        let mut fused = tensors[0].clone();
        for tensor in &tensors[1..] {
            fused.shape[0] += tensor.shape[0];
            fused.bytes.extend_from_slice(&tensor.bytes);
        }
        out.tensors.push((format!("{name}.{leaf}"), fused));
    }
}
