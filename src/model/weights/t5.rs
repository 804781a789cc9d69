//! The T5 encoder's weights.

use crate::device::Offloaded;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::config::T5Config;
use crate::model::weights::offload::Offload;
use crate::model::weights::offload::OffloadedLinear;
use crate::model::weights::offload::Residence;
use crate::model::weights::reader::Reader;
use crate::model::weights::tensor_source::Network;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::tensor_source::TensorSource;
use crate::model::weights::tensor_source::rows;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// One encoder block; no linear has a bias.
#[derive(Debug)]
pub struct T5BlockWeights {
    /// `[d_model]`.
    pub attention_norm: Tensor<f32, 1>,
    /// `[3 * num_heads * d_kv, d_model]`: q, k, v rows.
    pub qkv: Linear,
    /// `[d_model, num_heads * d_kv]`.
    pub out: Linear,
    /// `[d_model]`.
    pub mlp_norm: Tensor<f32, 1>,
    /// `[2 * d_ff, d_model]`: the gated (activated) half `wi_0`, then `wi_1`.
    pub mlp_up: Linear,
    /// `[d_model, d_ff]`.
    pub mlp_down: Linear,
}

/// The whole encoder.
#[derive(Debug)]
pub struct T5Weights {
    /// Sizes.
    pub config: T5Config,
    /// `[vocab, d_model]`.
    pub token_embedding: Weight,
    /// `[buckets, num_heads]`, of block 0, used by all blocks.
    pub relative_attention_bias: Tensor<f32, 2>,
    /// Blocks in order.
    pub blocks: Vec<Residence<T5BlockWeights>>,
    /// `[d_model]`.
    pub final_norm: Tensor<f32, 1>,
}

impl T5Weights {
    /// Reads the encoder; its tensors go where `placement` says.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] for a tensor that is missing, extra or misshapen.
    pub fn load(
        reader: &mut Reader<'_>,
        config: &T5Config,
        placement: impl Into<Placement>,
    ) -> Result<Self> {
        reader.checked(placement.into(), |reader| Self::read(reader, config))
    }
}

impl Network for T5Weights {
    type Config = T5Config;

    fn read(reader: &mut impl TensorSource, config: &T5Config) -> Result<Self> {
        let d = config.d_model;
        let bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        let bias_shape = [config.relative_attention_num_buckets, config.num_heads];
        let resident = config.num_layers.saturating_sub(reader.residency().t5_offloaded);
        Ok(Self {
            config: config.clone(),
            token_embedding: reader.matrix(&[Part::whole("shared", config.vocab_size)], d)?,
            relative_attention_bias: reader.host_table(bias, bias_shape)?,
            blocks: (0..config.num_layers)
                .map(|block| {
                    let offloaded = block >= resident;
                    reader
                        .residence(offloaded, |reader| T5BlockWeights::read(reader, config, block))
                })
                .collect::<Result<_>>()?,
            final_norm: reader.vector("encoder.final_layer_norm.weight", d)?,
        })
    }
}

impl T5BlockWeights {
    fn read(reader: &mut impl TensorSource, config: &T5Config, block: usize) -> Result<Self> {
        let (d, inner, mlp) = (config.d_model, config.num_heads * config.d_kv, config.d_ff);
        let name = |name: &str| format!("encoder.block.{block}.layer.{name}");
        let part = |module: &str, rows| Part::whole(name(module), rows);
        let qkv = ["0.SelfAttention.q", "0.SelfAttention.k", "0.SelfAttention.v"];
        let up = ["1.DenseReluDense.wi_0", "1.DenseReluDense.wi_1"];
        let fp8 = reader.residency().t5_fp8;
        let linear = |reader: &mut _, parts: &[Part], cols| linear(reader, parts, cols, fp8);
        Ok(Self {
            attention_norm: reader.vector(&name("0.layer_norm.weight"), d)?,
            qkv: linear(reader, &qkv.map(|module| part(module, inner)), d)?,
            out: linear(reader, &[part("0.SelfAttention.o", d)], inner)?,
            mlp_norm: reader.vector(&name("1.layer_norm.weight"), d)?,
            mlp_up: linear(reader, &up.map(|module| part(module, mlp)), d)?,
            mlp_down: linear(reader, &[part("1.DenseReluDense.wo", d)], mlp)?,
        })
    }
}

/// A layer of a block, in e4m3 with a scale for each output channel if `fp8`.
fn linear(
    reader: &mut impl TensorSource,
    parts: &[Part],
    cols: usize,
    fp8: bool,
) -> Result<Linear> {
    let linear = reader.linear_without_bias(parts, cols)?;
    if fp8 { reader.in_fp8(&linear, [rows(parts), cols]) } else { Ok(linear) }
}

/// A block in host memory.
#[derive(Debug)]
pub struct OffloadedT5Block {
    norms: [Offloaded<f32, 1>; 2],
    linears: [OffloadedLinear; 4],
}

impl Offload for T5BlockWeights {
    type Offloaded = OffloadedT5Block;

    fn offload(self) -> Result<OffloadedT5Block> {
        let Self { attention_norm, qkv, out, mlp_norm, mlp_up, mlp_down } = self;
        Ok(OffloadedT5Block {
            norms: [attention_norm.offload()?, mlp_norm.offload()?],
            linears: [qkv.offload()?, out.offload()?, mlp_up.offload()?, mlp_down.offload()?],
        })
    }

    fn fetch(OffloadedT5Block { norms, linears }: &OffloadedT5Block) -> Result<Self> {
        let ([attention_norm, mlp_norm], [qkv, out, mlp_up, mlp_down]) = (norms, linears);
        Ok(Self {
            attention_norm: attention_norm.fetch()?,
            qkv: Linear::fetch(qkv)?,
            out: Linear::fetch(out)?,
            mlp_norm: mlp_norm.fetch()?,
            mlp_up: Linear::fetch(mlp_up)?,
            mlp_down: Linear::fetch(mlp_down)?,
        })
    }
}
