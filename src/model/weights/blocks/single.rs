//! The weights of a single block.

use crate::device::Tensor;
use crate::error::Result;
use crate::model::plan::SinglePlan;
use crate::model::weights::blocks::bound;
use crate::model::weights::elastic::ElasticLinear;
use crate::model::weights::elastic::FluxLayout;
use crate::model::weights::stored_fp8::unit_names;
use crate::model::weights::tensor_source::LayerName;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::TensorSource;
use crate::model::weights::units::ElasticUnits;
use crate::model::weights::units::HostUnits;

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
    /// At the widths at which a loaded plan keeps outputs in e4m3.
    pub units: ElasticUnits,
}

impl SingleBlockWeights {
    pub(in crate::model::weights) fn read(
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
        let needs = |form| layout.single(block, form);
        let (first, second) = (name("attn.to_q"), name("proj_out"));
        let forms = [needs(SinglePlan::linear1_form), needs(SinglePlan::linear2_form)];
        let linear1 = reader.block_linear(&linear1, d, &first, &forms[0])?;
        let linear2 = [Part::whole(second.clone(), d)];
        let linear2 = reader.block_linear(&linear2, d + mlp, &second, &forms[1])?;
        let [v, hidden] = unit_names(config.num_layers + block, config.num_layers);
        let in_units = layout.single_in_units(block);
        let units = match in_units.is_empty() {
            true => None,
            false => Some(HostUnits {
                v: reader.units(&[&linear1], 2 * d..3 * d, &v)?,
                mlp: reader.units(&[&linear1], 3 * d..3 * d + mlp, &hidden)?,
            }),
        };
        let placed = ElasticUnits::placed(units.as_ref(), reader, &linear1, &in_units)?;
        let inputs = units.as_ref().map(|units| [units.attention(), units.mlp.clone()].concat());
        let layer = |name| LayerName { name, head_dim: head };
        Ok(Self {
            qk_bounds: [bound(&q_norm)?, bound(&k_norm)?],
            q_norm,
            k_norm,
            linear1: reader.elastic(linear1, [3 * d + mlp, d], &forms[0], None, layer(&first))?,
            linear2: reader.elastic(
                linear2,
                [d, d + mlp],
                &forms[1],
                inputs.as_deref(),
                layer(&second),
            )?,
            units: placed,
        })
    }
}
