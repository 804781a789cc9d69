//! The CLIP text encoder's weights.

use crate::device::Tensor;
use crate::error::Result;
use crate::model::config::ClipConfig;
use crate::model::weights::reader::Reader;
use crate::model::weights::tensor_source::Network;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::tensor_source::TensorSource;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// An affine LayerNorm.
#[derive(Debug)]
pub struct LayerNormWeights {
    /// `[D]`.
    pub weight: Tensor<f32, 1>,
    /// `[D]`.
    pub bias: Tensor<f32, 1>,
}

/// One pre-norm layer.
#[derive(Debug)]
pub struct ClipLayerWeights {
    /// Before attention.
    pub norm1: LayerNormWeights,
    /// `[3 D, D]`: q, k, v rows.
    pub qkv: Linear,
    /// `[D, D]`.
    pub out: Linear,
    /// Before the MLP.
    pub norm2: LayerNormWeights,
    /// `[intermediate, D]`.
    pub mlp_up: Linear,
    /// `[D, intermediate]`.
    pub mlp_down: Linear,
}

/// The whole encoder.
#[derive(Debug)]
pub struct ClipWeights {
    /// Sizes.
    pub config: ClipConfig,
    /// `[vocab, D]`.
    pub token_embedding: Weight,
    /// `[positions, D]`.
    pub position_embedding: Weight,
    /// Layers in order.
    pub layers: Vec<ClipLayerWeights>,
    /// After the last layer.
    pub final_norm: LayerNormWeights,
}

impl ClipWeights {
    /// Reads the encoder; its tensors go where `placement` says.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] for a tensor that is missing, extra or misshapen.
    pub fn load(
        reader: &mut Reader<'_>,
        config: &ClipConfig,
        placement: impl Into<Placement>,
    ) -> Result<Self> {
        reader.checked(placement.into(), |reader| Self::read(reader, config))
    }
}

impl Network for ClipWeights {
    type Config = ClipConfig;

    fn read(reader: &mut impl TensorSource, config: &ClipConfig) -> Result<Self> {
        let d = config.hidden_size;
        let tokens = Part::whole("embeddings.token_embedding", config.vocab_size);
        let positions =
            Part::whole("embeddings.position_embedding", config.max_position_embeddings);
        Ok(Self {
            config: config.clone(),
            token_embedding: reader.matrix(&[tokens], d)?,
            position_embedding: reader.matrix(&[positions], d)?,
            layers: (0..config.num_hidden_layers)
                .map(|layer| ClipLayerWeights::read(reader, config, layer))
                .collect::<Result<_>>()?,
            final_norm: LayerNormWeights::read(reader, "final_layer_norm", d)?,
        })
    }
}

impl ClipLayerWeights {
    fn read(reader: &mut impl TensorSource, config: &ClipConfig, layer: usize) -> Result<Self> {
        let (d, mlp) = (config.hidden_size, config.intermediate_size);
        let name = |name: &str| format!("encoder.layers.{layer}.{name}");
        let part = |module: &str, rows| Part::whole(name(module), rows);
        let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        Ok(Self {
            norm1: LayerNormWeights::read(reader, &name("layer_norm1"), d)?,
            qkv: reader.linear(&qkv.map(|module| part(module, d)), d)?,
            out: reader.linear(&[part("self_attn.out_proj", d)], d)?,
            norm2: LayerNormWeights::read(reader, &name("layer_norm2"), d)?,
            mlp_up: reader.linear(&[part("mlp.fc1", mlp)], d)?,
            mlp_down: reader.linear(&[part("mlp.fc2", d)], mlp)?,
        })
    }
}

impl LayerNormWeights {
    fn read(reader: &mut impl TensorSource, name: &str, width: usize) -> Result<Self> {
        Ok(Self {
            weight: reader.vector(&format!("{name}.weight"), width)?,
            bias: reader.vector(&format!("{name}.bias"), width)?,
        })
    }
}
