//! The weights of the transformer's blocks.

mod single;

use crate::device::Tensor;
use crate::error::Result;
use crate::model::plan::DoublePlan;
use crate::model::weights::elastic::ElasticLinear;
use crate::model::weights::elastic::FluxLayout;
use crate::model::weights::stored_fp8::unit_names;
use crate::model::weights::tensor_source::LayerName;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::TensorSource;
use crate::model::weights::units::ElasticUnits;
use crate::model::weights::units::HostUnits;
use crate::ops::gemm::Linear;

pub use single::SingleBlockWeights;

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
    /// Of both streams, at the widths at which a loaded plan keeps outputs in e4m3.
    pub units: ElasticUnits,
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
        let in_units = layout.double_in_units(block);
        let [v, hidden] = unit_names(block, layout.config.num_layers);
        let units = match in_units.is_empty() {
            true => None,
            false => Some(HostUnits {
                v: reader.units(&[&img.qkv, &txt.qkv], 2 * d..3 * d, &v)?,
                mlp: reader.units(&[&img.mlp_up, &txt.mlp_up], 0..mlp, &hidden)?,
            }),
        };
        Ok(Self {
            units: ElasticUnits::placed(units.as_ref(), reader, &img.qkv, &in_units)?,
            img: img.finish(reader, layout, block, units.as_ref())?,
            txt: txt.finish(reader, layout, block, units.as_ref())?,
        })
    }
}

/// What a stream's layers are called in files; q, k and v by q.
struct StreamNames {
    qkv: String,
    out: String,
    mlp_up: String,
    mlp_down: String,
}

/// One stream as it is read.
struct StreamLinears {
    names: StreamNames,
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
        let named = |name: &str| format!("{prefix}{name}");
        let names = StreamNames {
            qkv: named(qkv[0]),
            out: named(out),
            mlp_up: named(mlp_up),
            mlp_down: named(mlp_down),
        };
        let needs = |form| layout.double(block, form);
        Ok(Self {
            q_norm: reader.vector(&format!("{prefix}{q_norm}"), head)?,
            k_norm: reader.vector(&format!("{prefix}{k_norm}"), head)?,
            qkv: reader.block_linear(
                &qkv.map(|name| part(name, d)),
                d,
                &names.qkv,
                &needs(DoublePlan::qkv_form),
            )?,
            out: reader.block_linear(
                &[part(out, d)],
                d,
                &names.out,
                &needs(DoublePlan::out_form),
            )?,
            mlp_up: reader.block_linear(
                &[part(mlp_up, mlp)],
                d,
                &names.mlp_up,
                &needs(DoublePlan::mlp_up_form),
            )?,
            mlp_down: reader.block_linear(
                &[part(mlp_down, d)],
                mlp,
                &names.mlp_down,
                &needs(DoublePlan::mlp_down_form),
            )?,
            names,
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
        let needs = |form| layout.double(block, form);
        let head_dim = layout.config.attention_head_dim;
        let layer = |name| LayerName { name, head_dim };
        let Self { names, qkv, q_norm, k_norm, out, mlp_up, mlp_down } = self;
        let attention = units.map(HostUnits::attention);
        let hidden = units.map(|units| &units.mlp[..]);
        Ok(StreamWeights {
            qk_bounds: [bound(&q_norm)?, bound(&k_norm)?],
            q_norm,
            k_norm,
            qkv: reader.elastic(
                qkv,
                [3 * d, d],
                &needs(DoublePlan::qkv_form),
                None,
                layer(&names.qkv),
            )?,
            out: reader.elastic(
                out,
                [d, d],
                &needs(DoublePlan::out_form),
                attention.as_deref(),
                layer(&names.out),
            )?,
            mlp_up: reader.elastic(
                mlp_up,
                [mlp, d],
                &needs(DoublePlan::mlp_up_form),
                None,
                layer(&names.mlp_up),
            )?,
            mlp_down: reader.elastic(
                mlp_down,
                [d, mlp],
                &needs(DoublePlan::mlp_down_form),
                hidden,
                layer(&names.mlp_down),
            )?,
        })
    }
}

/// What an RMSNorm with these weights `[Dh]` and a rotation cannot exceed.
fn bound(norm: &Tensor<f32, 1>) -> Result<f32> {
    let weights = norm.to_host()?;
    let largest = weights.host().iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
    Ok(largest * (weights.host().len() as f32).sqrt())
}
