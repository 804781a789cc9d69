//! From what each change costs and brings to the fastest plan under a bound.

use crate::model::config::FluxConfig;
use crate::model::plan::BlockPlans;
use crate::model::plan::Precision;
use crate::model::plan::Width;
use crate::model::weights::width_biases::MLP_STEP;

/// Something cheaper in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// q, k and v of a double block in fp8.
    Qkv,
    /// The attention's output layer in fp8.
    Out,
    /// The MLP's second layer in fp8.
    MlpDown,
    /// The MLP's first layer in fp8.
    MlpUp,
    /// A single block's second layer in fp8.
    Linear2,
    /// A single block's first layer in fp8.
    Linear1,
    /// The attention in fp8.
    Attention,
    /// So many neurons.
    Mlp(usize),
    /// So many heads.
    Heads(usize),
}

impl Change {
    /// What tables and files call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Qkv => "qkv".into(),
            Self::Out => "out".into(),
            Self::MlpDown => "mlp_down".into(),
            Self::MlpUp => "mlp_up".into(),
            Self::Linear2 => "linear2".into(),
            Self::Linear1 => "linear1".into(),
            Self::Attention => "attention".into(),
            Self::Mlp(neurons) => format!("mlp {neurons}"),
            Self::Heads(heads) => format!("heads {heads}"),
        }
    }

    /// Makes it in block `block`, double ones first.
    pub fn apply(&self, plans: &mut BlockPlans, block: usize) {
        let fp8 = Precision::Fp8;
        if let Some(plan) = plans.double.get_mut(block) {
            match *self {
                Self::Qkv => plan.qkv = fp8,
                Self::Out => plan.out = fp8,
                Self::MlpDown => plan.mlp_down = fp8,
                Self::MlpUp => plan.mlp_up = fp8,
                Self::Attention => plan.attention = fp8,
                Self::Mlp(mlp) => plan.width.mlp = Some(mlp),
                Self::Heads(heads) => plan.width.heads = Some(heads),
                Self::Linear1 | Self::Linear2 => {}
            }
        } else if let Some(plan) = plans.single.get_mut(block - plans.double.len()) {
            match *self {
                Self::Linear1 => plan.linear1 = fp8,
                Self::Linear2 => plan.linear2 = fp8,
                Self::Attention => plan.attention = fp8,
                Self::Mlp(mlp) => plan.width.mlp = Some(mlp),
                Self::Heads(heads) => plan.width.heads = Some(heads),
                Self::Qkv | Self::Out | Self::MlpDown | Self::MlpUp => {}
            }
        }
    }
}

/// A row of changes, each of which asks for the ones before it.
pub type Ladder = Vec<Change>;

/// What can be chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Linear layers in fp8.
    pub linears: bool,
    /// Attention in fp8.
    pub attention: bool,
    /// Fewer neurons and heads.
    pub widths: bool,
}

impl Offer {
    /// The ladders of a double block, then of a single one.
    #[must_use]
    pub fn ladders(&self, config: &FluxConfig) -> [Vec<Ladder>; 2] {
        let neurons = || mlp_widths(config).into_iter().map(Change::Mlp).collect();
        let heads = || head_counts(config).into_iter().map(Change::Heads).collect();
        let input = |layer| match self.attention {
            true => vec![layer, Change::Attention],
            false => vec![layer],
        };
        let (mut double, mut single): (Vec<Ladder>, Vec<Ladder>) = (Vec::new(), Vec::new());
        if self.linears {
            double.push(input(Change::Qkv));
            double.push(vec![Change::Out]);
            double.push(vec![Change::MlpDown, Change::MlpUp]);
            let first = [vec![Change::Linear2], input(Change::Linear1)].concat();
            single.push(first);
        }
        for ladders in [&mut double, &mut single] {
            if self.widths {
                ladders.push(neurons());
                ladders.push(heads());
            }
        }
        [double, single]
    }

    /// Plans that together need every form of every layer that a choice may need.
    #[must_use]
    pub fn plans(&self, config: &FluxConfig) -> Vec<BlockPlans> {
        let widths = |widths: Vec<usize>| {
            let narrow = widths.into_iter().filter(|_| self.widths).map(Some);
            [None].into_iter().chain(narrow).collect::<Vec<_>>()
        };
        let mut plans = Vec::new();
        for heads in widths(head_counts(config)) {
            for mlp in widths(mlp_widths(config)) {
                let mut plan = BlockPlans::plain([config.num_layers, config.num_single_layers]);
                let width = Width { heads, mlp };
                plan.double.iter_mut().for_each(|block| block.width = width);
                plan.single.iter_mut().for_each(|block| block.width = width);
                plans.push(plan.clone());
                if self.linears {
                    let blocks = config.num_layers + config.num_single_layers;
                    let ladders = Self { widths: false, ..*self }.ladders(config);
                    for block in 0..blocks {
                        let of_kind = &ladders[usize::from(block >= config.num_layers)];
                        of_kind.iter().flatten().for_each(|change| change.apply(&mut plan, block));
                    }
                    plans.push(plan);
                }
            }
        }
        plans
    }
}

/// Seven, six, five and four eighths of the neurons, in whole steps.
fn mlp_widths(config: &FluxConfig) -> Vec<usize> {
    let all = config.mlp_size();
    let steps = [7, 6, 5, 4].map(|eighths| all * eighths / 8 / MLP_STEP * MLP_STEP);
    narrower(steps.into(), all)
}

/// Seven, six and four eighths of the heads; whole pairs where there are such, as the tiles of Hopper's
/// kernels hold.
fn head_counts(config: &FluxConfig) -> Vec<usize> {
    let all = config.num_attention_heads;
    let unit = if all > 2 && all.is_multiple_of(2) { 2 } else { 1 };
    narrower([7, 6, 4].map(|eighths| all * eighths / 8 / unit * unit).into(), all)
}

/// Those below `all`, each once.
fn narrower(mut widths: Vec<usize>, all: usize) -> Vec<usize> {
    widths.retain(|width| (1..all).contains(width));
    widths.dedup();
    widths
}

/// A change that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Double blocks first.
    pub block: usize,
    /// What changes.
    pub change: Change,
    /// The choice that this one asks for.
    pub needs: Option<usize>,
    /// The square of the relative error that it adds.
    pub loss: f64,
    /// The share of a step's time that it saves.
    pub gain: f64,
}

impl Choice {
    /// Whether a plan makes it.
    #[must_use]
    pub fn is_made_in(&self, plans: &BlockPlans) -> bool {
        let mut with = plans.clone();
        self.change.apply(&mut with, self.block);
        with == *plans
    }
}

/// A choice with those that it asks for and that are not taken yet.
struct Bundle {
    choices: Vec<usize>,
    loss: f64,
    gain: f64,
}

impl Bundle {
    fn of(choices: &[Choice], taken: &[bool], last: usize) -> Self {
        let needed = |index: &usize| choices[*index].needs;
        let chain = std::iter::successors(Some(last), needed).take_while(|index| !taken[*index]);
        let mut bundle = Self { choices: chain.collect(), loss: 0.0, gain: 0.0 };
        for &index in &bundle.choices {
            bundle.loss += choices[index].loss;
            bundle.gain += choices[index].gain;
        }
        bundle
    }

    fn worth(&self) -> f64 {
        self.gain / self.loss.max(1e-12)
    }
}

/// The choices that save most time while their losses together stay within `budget`: those first whose loss
/// buys most, alone or with the ones that they ask for.
#[must_use]
pub fn choose(choices: &[Choice], budget: f64) -> Vec<bool> {
    let mut taken = vec![false; choices.len()];
    let mut left = budget;
    loop {
        let open = (0..choices.len()).filter(|&index| !taken[index]);
        let bundles = open.map(|index| Bundle::of(choices, &taken, index));
        let bundles = bundles.filter(|bundle| bundle.gain > 0.0 && bundle.loss <= left);
        let best = bundles.max_by(|a, b| a.worth().total_cmp(&b.worth()));
        let Some(bundle) = best else { return taken };
        bundle.choices.iter().for_each(|&index| taken[index] = true);
        left -= bundle.loss;
    }
}

/// The plan of what was taken.
#[must_use]
pub fn plan_of(choices: &[Choice], taken: &[bool], blocks: [usize; 2]) -> BlockPlans {
    let mut plans = BlockPlans::plain(blocks);
    for (choice, _) in choices.iter().zip(taken).filter(|(_, taken)| **taken) {
        choice.change.apply(&mut plans, choice.block);
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> FluxConfig {
        FluxConfig {
            in_channels: 64,
            out_channels: None,
            num_layers: 1,
            num_single_layers: 1,
            attention_head_dim: 64,
            num_attention_heads: 3,
            joint_attention_dim: 128,
            pooled_projection_dim: 128,
            guidance_embeds: true,
            axes_dims_rope: [8, 28, 28],
        }
    }

    const ALL: Offer = Offer { linears: true, attention: true, widths: true };

    #[test]
    fn widths_are_whole_steps() {
        assert_eq!(mlp_widths(&config()), [640, 512, 384]);
        assert_eq!(head_counts(&config()), [2, 1]);
        let flux = FluxConfig { num_attention_heads: 24, ..config() };
        assert_eq!(head_counts(&flux), [20, 18, 12]);
    }

    #[test]
    fn the_plans_hold_every_change() {
        let plans = ALL.plans(&config());
        // Three head counts and four MLP widths, in bf16 and in fp8.
        assert_eq!(plans.len(), 24);
        let narrow = Width { heads: Some(1), mlp: Some(384) };
        let last = plans.last().unwrap();
        assert_eq!((last.double[0].width, last.single[0].width), (narrow, narrow));
        assert!(last.double[0].attention.is_fp8() && last.single[0].linear1.is_fp8());
        let none = Offer { linears: false, attention: false, widths: false };
        assert_eq!(none.plans(&config()), [BlockPlans::plain([1, 1])]);
    }

    fn choice(change: Change, needs: Option<usize>, loss: f64, gain: f64) -> Choice {
        Choice { block: 0, change, needs, loss, gain }
    }

    #[test]
    fn what_buys_most_time_is_taken_first_and_asks_for_what_it_needs() {
        let choices = [
            choice(Change::MlpDown, None, 1.0, 0.1),
            choice(Change::MlpUp, Some(0), 1.0, 0.9),
            choice(Change::Qkv, None, 1.0, 0.5),
            choice(Change::Out, None, 0.1, -0.1),
        ];
        assert_eq!(choose(&choices, 1.0), [false, false, true, false]);
        // The two layers of the MLP together buy as much a unit of loss as q, k and v; alone the first
        // buys less.
        assert_eq!(choose(&choices[..2], 2.0), [true, true]);
        assert_eq!(choose(&choices, 3.0), [true, true, true, false]);
        assert_eq!(choose(&choices, 0.5), [false; 4]);
        let plan = plan_of(&choices, &choose(&choices, 3.0), [1, 1]);
        let made: Vec<bool> = choices.iter().map(|choice| choice.is_made_in(&plan)).collect();
        assert_eq!(made, [true, true, true, false]);
        assert!(plan.double[0].mlp_up.is_fp8() && !plan.double[0].out.is_fp8());
    }
}
