//! Which forms of which layers loaded plans need.

use crate::model::config::FluxConfig;
use crate::model::plan::BlockPlans;
use crate::model::plan::BlockSizes;
use crate::model::plan::DoublePlan;
use crate::model::plan::LayerForm;
use crate::model::plan::Precision;
use crate::model::plan::SinglePlan;
use crate::model::plan::Width;

/// Which forms of a layer are loaded.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    pub(in crate::model::weights) forms: Vec<LayerForm>,
}

impl Needs {
    /// Whether any is in `precision`.
    pub(in crate::model::weights) fn has(&self, precision: Precision) -> bool {
        self.forms.iter().any(|form| form.precision == precision)
    }
}

impl FromIterator<LayerForm> for Needs {
    fn from_iter<I: IntoIterator<Item = LayerForm>>(forms: I) -> Self {
        let mut needs = Self::default();
        for form in forms {
            if !needs.forms.iter().any(|known| known.is(&form)) {
                needs.forms.push(form);
            }
        }
        needs
    }
}

/// A transformer's sizes, and what of it is loaded: what these plans need.
#[derive(Debug, Clone, PartialEq)]
pub struct FluxLayout {
    /// Sizes.
    pub config: FluxConfig,
    /// As many blocks each as the transformer has.
    pub plans: Vec<BlockPlans>,
}

impl From<FluxConfig> for FluxLayout {
    /// All blocks in the pipeline's dtype.
    fn from(config: FluxConfig) -> Self {
        let plans = vec![BlockPlans::plain([config.num_layers, config.num_single_layers])];
        Self { config, plans }
    }
}

impl FluxLayout {
    /// What is needed of a layer of double block `index`.
    pub(in crate::model::weights) fn double(
        &self,
        index: usize,
        form: fn(&DoublePlan, BlockSizes) -> LayerForm,
    ) -> Needs {
        let full = BlockSizes::full(&self.config);
        let plans = self.plans.iter().filter_map(|plan| plan.double.get(index));
        plans.map(|plan| form(plan, full)).collect()
    }

    /// What is needed of a layer of single block `index`.
    pub(in crate::model::weights) fn single(
        &self,
        index: usize,
        form: fn(&SinglePlan, BlockSizes) -> LayerForm,
    ) -> Needs {
        let full = BlockSizes::full(&self.config);
        let plans = self.plans.iter().filter_map(|plan| plan.single.get(index));
        plans.map(|plan| form(plan, full)).collect()
    }

    /// The sizes at which outputs of double block `index` are kept in e4m3.
    pub(in crate::model::weights) fn double_in_units(&self, index: usize) -> Vec<BlockSizes> {
        let plans = self.plans.iter().filter_map(|plan| plan.double.get(index));
        let kept = |plan: &&DoublePlan| {
            [plan.attention, plan.out, plan.mlp_down].into_iter().any(Precision::is_fp8)
        };
        self.sizes(plans.filter(kept).map(|plan| plan.width))
    }

    /// The sizes at which outputs of single block `index` are kept in e4m3.
    pub(in crate::model::weights) fn single_in_units(&self, index: usize) -> Vec<BlockSizes> {
        let plans = self.plans.iter().filter_map(|plan| plan.single.get(index));
        let kept =
            |plan: &&SinglePlan| [plan.attention, plan.linear2].into_iter().any(Precision::is_fp8);
        self.sizes(plans.filter(kept).map(|plan| plan.width))
    }

    fn sizes(&self, widths: impl Iterator<Item = Width>) -> Vec<BlockSizes> {
        let full = BlockSizes::full(&self.config);
        let mut sizes = Vec::new();
        for size in widths.map(|width| full.narrowed(width)) {
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
        sizes
    }
}
