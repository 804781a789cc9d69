//! The weights of the transformer's blocks.

use crate::device::Tensor;
use crate::error::Result;
use crate::model::weights::elastic::ElasticLinear;
use crate::model::weights::elastic::FluxLayout;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::TensorSource;
use crate::model::weights::units::HostUnits;
use crate::model::weights::units::Units;
use crate::ops::gemm::Linear;

/// One stream (img or txt) of a double block.
#[derive(Debug)]
pub struct StreamWeights {
    /// `[3 D, D]`: q, k, v rows.
    pub qkv: ElasticLinear,
    /// `[Dh]`.
    pub q_norm: Tensor<f32, 1>,
    /// `[Dh]`.
    pub k_norm: Tensor<f32, 1>,
    /// No element of q and k after norm and rotation is larger.
    pub qk_bounds: [f32; 2],
    /// `[D, D]`.
    pub out: ElasticLinear,
    /// `[M, D]`.
    pub mlp_up: ElasticLinear,
    /// `[D, M]`.
    pub mlp_down: ElasticLinear,
}

/// A double block: the two streams with their own weights.
#[derive(Debug)]
pub struct DoubleBlockWeights {
    /// Image stream.
    pub img: StreamWeights,
    /// Text stream.
    pub txt: StreamWeights,
    /// Of both streams, where a loaded plan keeps outputs in e4m3.
    pub units: Option<Units>,
}

/// A single block over the joint sequence.
#[derive(Debug)]
pub struct SingleBlockWeights {
    /// `[3 D + M, D]`: q, k, v, MLP rows.
    pub linear1: ElasticLinear,
    /// `[Dh]`.
    pub q_norm: Tensor<f32, 1>,
    /// `[Dh]`.
    pub k_norm: Tensor<f32, 1>,
    /// No element of q and k after norm and rotation is larger.
    pub qk_bounds: [f32; 2],
    /// `[D, D + M]`: columns of the attention output, then of the MLP.
    pub linear2: ElasticLinear,
    /// Where a loaded plan keeps outputs in e4m3.
    pub units: Option<Units>,
}

impl DoubleBlockWeights {
    pub(super) fn read(
        reader: &mut impl TensorSource,
        layout: &FluxLayout,
        block: usize,
    ) -> Result<Self> {
        let img = [
            ["attn.to_q", "attn.to_k", "attn.to_v"],
            ["attn.norm_q.weight", "attn.norm_k.weight", "attn.to_out.0"],
            ["ff.net.0.proj", "ff.net.2", ""],
        ];
        let txt = [
            ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
            ["attn.norm_added_q.weight", "attn.norm_added_k.weight", "attn.to_add_out"],
            ["ff_context.net.0.proj", "ff_context.net.2", ""],
        ];
        let [img, txt] = [img, txt].map(|names| StreamLinears::read(reader, layout, block, names));
        let (img, txt) = (img?, txt?);
        let (d, mlp) = (layout.config.hidden_size(), layout.config.mlp_size());
        let units = match layout.double_has_units(block) {
            false => None,
            true => Some(HostUnits {
                v: reader.units(&[&img.qkv, &txt.qkv], 2 * d..3 * d)?,
                mlp: reader.units(&[&img.mlp_up, &txt.mlp_up], 0..mlp)?,
            }),
        };
        Ok(Self {
            units: units.as_ref().map(|units| units.placed(reader, &img.qkv)).transpose()?,
            img: img.finish(reader, layout, block, units.as_ref())?,
            txt: txt.finish(reader, layout, block, units.as_ref())?,
        })
    }
}

/// One stream as it is read.
struct StreamLinears {
    qkv: Linear,
    q_norm: Tensor<f32, 1>,
    k_norm: Tensor<f32, 1>,
    out: Linear,
    mlp_up: Linear,
    mlp_down: Linear,
}

impl StreamLinears {
    fn read(
        reader: &mut impl TensorSource,
        layout: &FluxLayout,
        block: usize,
        [qkv, [q_norm, k_norm, out], [mlp_up, mlp_down, _]]: [[&str; 3]; 3],
    ) -> Result<Self> {
        let config = &layout.config;
        let (d, mlp, head) = (config.hidden_size(), config.mlp_size(), config.attention_head_dim);
        let prefix = format!("transformer_blocks.{block}.");
        let part = |name: &str, rows| Part::whole(format!("{prefix}{name}"), rows);
        Ok(Self {
            q_norm: reader.vector(&format!("{prefix}{q_norm}"), head)?,
            k_norm: reader.vector(&format!("{prefix}{k_norm}"), head)?,
            qkv: reader.linear(&qkv.map(|name| part(name, d)), d)?,
            out: reader.linear(&[part(out, d)], d)?,
            mlp_up: reader.linear(&[part(mlp_up, mlp)], d)?,
            mlp_down: reader.linear(&[part(mlp_down, d)], mlp)?,
        })
    }

    /// In the precisions that are loaded.
    fn finish(
        self,
        reader: &mut impl TensorSource,
        layout: &FluxLayout,
        block: usize,
        units: Option<&HostUnits>,
    ) -> Result<StreamWeights> {
        let (d, mlp) = (layout.config.hidden_size(), layout.config.mlp_size());
        let needs = |layer| layout.double(block, layer);
        let Self { qkv, q_norm, k_norm, out, mlp_up, mlp_down } = self;
        let attention = units.map(HostUnits::attention);
        let hidden = units.map(|units| &units.mlp[..]);
        Ok(StreamWeights {
            qk_bounds: [bound(&q_norm)?, bound(&k_norm)?],
            q_norm,
            k_norm,
            qkv: reader.elastic(qkv, [3 * d, d], needs(|plan| plan.qkv), None)?,
            out: reader.elastic(out, [d, d], needs(|plan| plan.out), attention.as_deref())?,
            mlp_up: reader.elastic(mlp_up, [mlp, d], needs(|plan| plan.mlp_up), None)?,
            mlp_down: reader.elastic(mlp_down, [d, mlp], needs(|plan| plan.mlp_down), hidden)?,
        })
    }
}

impl SingleBlockWeights {
    pub(super) fn read(
        reader: &mut impl TensorSource,
        layout: &FluxLayout,
        block: usize,
    ) -> Result<Self> {
        let config = &layout.config;
        let (d, mlp, head) = (config.hidden_size(), config.mlp_size(), config.attention_head_dim);
        let name = |name: &str| format!("single_transformer_blocks.{block}.{name}");
        let linear1 = [("attn.to_q", d), ("attn.to_k", d), ("attn.to_v", d), ("proj_mlp", mlp)];
        let linear1 = linear1.map(|(module, rows)| Part::whole(name(module), rows));
        let q_norm = reader.vector(&name("attn.norm_q.weight"), head)?;
        let k_norm = reader.vector(&name("attn.norm_k.weight"), head)?;
        let linear1 = reader.linear(&linear1, d)?;
        let linear2 = reader.linear(&[Part::whole(name("proj_out"), d)], d + mlp)?;
        let units = match layout.single_has_units(block) {
            false => None,
            true => Some(HostUnits {
                v: reader.units(&[&linear1], 2 * d..3 * d)?,
                mlp: reader.units(&[&linear1], 3 * d..3 * d + mlp)?,
            }),
        };
        let placed = units.as_ref().map(|units| units.placed(reader, &linear1)).transpose()?;
        let inputs = units.as_ref().map(|units| [units.attention(), units.mlp.clone()].concat());
        let needs = |layer| layout.single(block, layer);
        Ok(Self {
            qk_bounds: [bound(&q_norm)?, bound(&k_norm)?],
            q_norm,
            k_norm,
            linear1: reader.elastic(linear1, [3 * d + mlp, d], needs(|plan| plan.linear1), None)?,
            linear2: reader.elastic(
                linear2,
                [d, d + mlp],
                needs(|plan| plan.linear2),
                inputs.as_deref(),
            )?,
            units: placed,
        })
    }
}

/// What an RMSNorm with these weights `[Dh]` and a rotation cannot exceed.
fn bound(norm: &Tensor<f32, 1>) -> Result<f32> {
    let weights = norm.to_host()?;
    let largest = weights.host().iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
    Ok(largest * (weights.host().len() as f32).sqrt())
}
