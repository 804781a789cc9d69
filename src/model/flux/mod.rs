//! The FLUX.1 transformer: packed latents in, velocity out.
//!
//! Spec flux 3; reference `FluxTransformer2DModel` of diffusers. Text and image tokens live in one
//! joint `[S, D]` stream, text first. What does not depend on the latents is computed once per
//! image ([`prepare`]): the text projection, the RoPE table and all modulation of all steps.

pub mod double_block;
pub mod modulation;
pub mod prepare;
pub mod rope;
pub mod single_block;

use std::mem::swap;

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::config::FluxConfig;
use crate::model::weights::flux::FluxWeights;
use crate::ops::gemm::Activation;
use crate::ops::gemm::gemm;
use crate::ops::gemm::whole;
use crate::ops::layernorm_modulate::ModulateSegment;
use crate::ops::layernorm_modulate::layernorm_modulate;

pub use modulation::BlockModulation;
pub use modulation::ModulationLayout;
pub use prepare::Prepared;

/// The activations of one forward pass, allocated once per image size.
#[derive(Debug)]
pub struct Workspace {
    /// `[S, D]`: the stream that the next block reads.
    pub stream: Tensor<Act, 2>,
    /// `[S, D]`: the stream that it writes; the old one stays intact.
    pub next: Tensor<Act, 2>,
    /// What a block needs between its two ends.
    pub scratch: Scratch,
}

/// Buffers that live within one block.
#[derive(Debug)]
pub struct Scratch {
    /// `[S, D]`: a double block's stream after attention.
    pub mid: Tensor<Act, 2>,
    /// `[S, D]`: modulated input of a linear layer.
    pub normed: Tensor<Act, 2>,
    /// `[S, 3, H, Dh]`.
    pub qkv: Tensor<Act, 4>,
    /// `[S, D + M]`: attention output, then MLP hidden layer, as linear2 reads them.
    pub attention_mlp: Tensor<Act, 2>,
}

impl Workspace {
    /// Buffers for `seq` joint tokens.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(device: &Device, config: &FluxConfig, seq: usize) -> Result<Self> {
        let hidden = config.hidden_size();
        let qkv = [seq, 3, config.num_attention_heads, config.attention_head_dim];
        Ok(Self {
            stream: Tensor::empty(device, [seq, hidden])?,
            next: Tensor::empty(device, [seq, hidden])?,
            scratch: Scratch {
                mid: Tensor::empty(device, [seq, hidden])?,
                normed: Tensor::empty(device, [seq, hidden])?,
                qkv: Tensor::empty(device, qkv)?,
                attention_mlp: Tensor::empty(device, [seq, hidden + config.mlp_size()])?,
            },
        })
    }
}

/// `velocity [I, out_channels]` of the packed latents `[I, in_channels]` at the step that `step`
/// `[1]` counts, a row of `prepared.modulation`.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn forward(
    velocity: &mut Tensor<Act, 2>,
    workspace: &mut Workspace,
    latents: Matrix<'_, Act>,
    weights: &FluxWeights,
    prepared: &Prepared,
    step: &Tensor<u32, 1>,
) -> Result<()> {
    let modulation = ModulationLayout::new(&weights.config).at(&prepared.modulation, step);
    let [txt_len, _] = prepared.txt.shape();
    let [seq, _] = workspace.stream.shape();
    let Workspace { stream, next, scratch } = workspace;

    let (mut txt, img) = stream.matrix_mut().split_at_row(txt_len);
    txt.copy_from(prepared.txt.matrix())?;
    let segments = whole(&weights.x_embedder, seq - txt_len);
    gemm(img, latents, None, &segments, Activation::None)?;

    for (index, block) in weights.double.iter().enumerate() {
        let modulation = modulation.double(index);
        double_block::forward(next, scratch, stream, block, &modulation, prepared)?;
        swap(stream, next);
    }
    for (index, block) in weights.single.iter().enumerate() {
        let modulation = modulation.single(index);
        single_block::forward(next, scratch, stream, block, modulation, prepared)?;
        swap(stream, next);
    }

    // The final layer sees the image only; the text has done its work.
    let (shift, scale) = modulation.last();
    let rows = 0..seq - txt_len;
    let segments = [ModulateSegment { rows: rows.clone(), shift, scale }];
    layernorm_modulate(
        scratch.normed.matrix_mut().rows(rows.clone()),
        stream.matrix().rows(txt_len..seq),
        &segments,
    )?;
    let normed = scratch.normed.matrix().rows(rows);
    let segments = whole(&weights.proj_out, seq - txt_len);
    gemm(velocity.matrix_mut(), normed, None, &segments, Activation::None)
}
