//! Blocks of FLUX.1's full width on CUDA against the CPU, random weights.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::model::config::FluxConfig;
use flux_rt::model::flux::BlockOutput;
use flux_rt::model::flux::ModulationLayout;
use flux_rt::model::flux::Prepared;
use flux_rt::model::flux::Workspace;
use flux_rt::model::flux::double_block;
use flux_rt::model::flux::rope;
use flux_rt::model::flux::single_block;
use flux_rt::model::plan::BlockPlans;
use flux_rt::model::plan::BlockSizes;
use flux_rt::model::plan::DoublePlan;
use flux_rt::model::plan::Precision;
use flux_rt::model::plan::SinglePlan;
use flux_rt::model::weights::blocks::DoubleBlockWeights;
use flux_rt::model::weights::blocks::SingleBlockWeights;
use flux_rt::model::weights::blocks::StreamWeights;
use flux_rt::model::weights::elastic::ElasticLinear;
use flux_rt::model::weights::units::ElasticUnits;
use flux_rt::model::weights::units::Units;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;

use crate::common::Tolerance;
use crate::common::assert_close;
use crate::common::gpu;
use crate::common::gpu::Gpu;

/// Text tokens, and rows and columns of image tokens.
const TXT: usize = 64;
const GRID: [usize; 2] = [12, 16];
const SEQ: usize = TXT + GRID[0] * GRID[1];

/// Some eight bf16 tensors stand between a block's two ends, each rounded at 0.0017 in relative L2,
/// and the modulation multiplies errors by up to 2: 0.0017 sqrt(8) * 2 is 0.0096. An element of size
/// 1 may be off by some five times the mean.
const BLOCK: Tolerance = Tolerance { atol: 5e-2, rtol: 2e-2, l2: 1e-2 };

/// FLUX.1's sizes, one block of either kind.
fn config() -> FluxConfig {
    FluxConfig {
        in_channels: 64,
        out_channels: None,
        num_layers: 1,
        num_single_layers: 1,
        attention_head_dim: 128,
        num_attention_heads: 24,
        joint_attention_dim: 4096,
        pooled_projection_dim: 768,
        guidance_embeds: true,
        axes_dims_rope: [16, 56, 56],
    }
}

/// A random layer; `inputs` as of [`ElasticLinear::in_fp8`].
fn linear(
    device: &Device,
    precision: Precision,
    [n, k]: [usize; 2],
    inputs: &[f32],
    seed: u64,
) -> ElasticLinear {
    let linear = Linear {
        weight: Weight::Bf16(gpu::weights(device, [n, k], seed)),
        bias: Some(gpu::f32s(device, [n], seed + 1)),
    };
    match precision {
        Precision::Bf16 => linear.into(),
        Precision::Fp8 => {
            ElasticLinear::in_fp8(&linear, (!inputs.is_empty()).then_some(inputs)).unwrap()
        }
    }
}

/// Weights are normal with a deviation of 1 / sqrt(K), and so what comes of normed inputs is near 1.
const UNIT: f32 = 1.0;
const HIDDEN: usize = 3072;

fn units(device: &Device) -> ElasticUnits {
    let units = |unit, len| gpu::to(device, Tensor::from_host([len], vec![unit; len]));
    let (v, attention) = (units(UNIT, HIDDEN), units(UNIT / 4.0, HIDDEN));
    let units = Units { v, attention, mlp: units(UNIT, 4 * HIDDEN) };
    (BlockSizes::full(&config()), units).into()
}

/// What q and k do not exceed whose norms' weights are below 1.
const BOUNDS: [f32; 2] = [11.5; 2];

fn stream(device: &Device, precision: Precision, config: &FluxConfig, seed: u64) -> StreamWeights {
    let (hidden, mlp) = (config.hidden_size(), config.mlp_size());
    let linear = |shape, inputs: &[f32], seed| linear(device, precision, shape, inputs, seed);
    StreamWeights {
        qkv: linear([3 * hidden, hidden], &[], seed),
        q_norm: gpu::f32s(device, [config.attention_head_dim], seed + 2),
        k_norm: gpu::f32s(device, [config.attention_head_dim], seed + 3),
        qk_bounds: BOUNDS,
        out: linear([hidden, hidden], &[UNIT / 4.0; HIDDEN], seed + 4),
        mlp_up: linear([mlp, hidden], &[], seed + 6),
        mlp_down: linear([hidden, mlp], &[UNIT; 4 * HIDDEN], seed + 8),
    }
}

/// An image's constants, with random modulation of two steps.
fn prepared(device: &Device, config: &FluxConfig) -> Prepared {
    let columns = ModulationLayout::new(config).columns();
    let table = rope::table(TXT, GRID[0], GRID[1], config.axes_dims_rope);
    Prepared {
        txt: gpu::act(device, [TXT, config.hidden_size()], 1),
        rope: gpu::to(device, table),
        modulation: gpu::act(device, [2, columns], 2),
        attention_scale: config.attention_scale(),
    }
}

/// A double block whose layers and attention compute in `precision`.
fn double(device: &Device, precision: Precision) -> Vec<f32> {
    let config = config();
    let prepared = prepared(device, &config);
    let weights = DoubleBlockWeights {
        txt: stream(device, precision, &config, 10),
        img: stream(device, precision, &config, 20),
        units: units(device),
    };
    let plan = DoublePlan { attention: precision, ..DoublePlan::linears(precision) };
    let plans = BlockPlans { double: vec![plan], ..BlockPlans::plain([1, 1]) };
    let input: Tensor<Act, 2> = gpu::act(device, [SEQ, config.hidden_size()], 3);
    let step = gpu::to(device, Tensor::from_host([1], vec![1u32]));
    let modulation = ModulationLayout::new(&config).at(&prepared.modulation, &step);
    let Workspace { streams: [mut next, ..], mut scratch } =
        Workspace::new(device, &config, SEQ, &plans).unwrap();
    let (out, vectors) = (BlockOutput::from(&mut next), modulation.double(0));
    double_block::forward(out, &mut scratch, &input, &weights, &vectors, &prepared, &plan).unwrap();
    gpu::host(next)
}

/// A single block likewise.
fn single(device: &Device, precision: Precision) -> Vec<f32> {
    let config = config();
    let (hidden, mlp) = (config.hidden_size(), config.mlp_size());
    let prepared = prepared(device, &config);
    let inputs = [[UNIT / 4.0; HIDDEN].as_slice(), &[UNIT; 4 * HIDDEN]].concat();
    let weights = SingleBlockWeights {
        linear1: linear(device, precision, [3 * hidden + mlp, hidden], &[], 30),
        q_norm: gpu::f32s(device, [config.attention_head_dim], 32),
        k_norm: gpu::f32s(device, [config.attention_head_dim], 33),
        qk_bounds: BOUNDS,
        linear2: linear(device, precision, [hidden, hidden + mlp], &inputs, 34),
        units: units(device),
    };
    let plan = SinglePlan { attention: precision, ..SinglePlan::linears(precision) };
    let plans = BlockPlans { single: vec![plan], ..BlockPlans::plain([1, 1]) };
    let input: Tensor<Act, 2> = gpu::act(device, [SEQ, hidden], 3);
    let step = gpu::to(device, Tensor::from_host([1], vec![1u32]));
    let modulation = ModulationLayout::new(&config).at(&prepared.modulation, &step);
    let Workspace { streams: [mut next, ..], mut scratch } =
        Workspace::new(device, &config, SEQ, &plans).unwrap();
    let (out, vectors) = (BlockOutput::from(&mut next), modulation.single(0));
    single_block::forward(out, &mut scratch, &input, &weights, vectors, &prepared, &plan).unwrap();
    gpu::host(next)
}

#[test]
fn cuda_double_block_agrees_with_the_cpu() {
    let Some(gpu) = gpu::gpu() else { return };
    gpu.agrees("double block", BLOCK, |device| double(device, Precision::Bf16));
}

#[test]
fn cuda_single_block_agrees_with_the_cpu() {
    let Some(gpu) = gpu::gpu() else { return };
    gpu.agrees("single block", BLOCK, |device| single(device, Precision::Bf16));
}

/// Both devices round to e4m3 in the same places. Where their sums differ a little, some two of a
/// hundred numbers become the next one, a sixteenth away, in five tensors behind one another: 0.8 % of
/// what the block adds to its residual.
const FP8_BLOCK: Tolerance = Tolerance { atol: 1e-1, rtol: 2e-2, l2: 1e-2 };

#[test]
fn cuda_fp8_blocks_agree_with_the_cpu() {
    let Some(gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    gpu.agrees("double block", FP8_BLOCK, |device| double(device, Precision::Fp8));
    gpu.agrees("single block", FP8_BLOCK, |device| single(device, Precision::Fp8));
}

fn relative_l2(actual: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
    };
    let mut errors = actual.iter().zip(expected).map(|(a, b)| a - b);
    norm(&mut errors) / norm(&mut expected.iter().copied())
}

/// What e4m3 costs a block of full width: the weights' and the activations' rounding, 0.026 each in
/// relative L2, through two to three products behind one another, beside a residual.
#[test]
fn fp8_blocks_are_near_f32() {
    for (name, block) in [("double", double as fn(&Device, Precision) -> _), ("single", single)] {
        let [exact, rounded] = [Precision::Bf16, Precision::Fp8].map(|p| block(&Device::Cpu, p));
        let near = Tolerance { atol: 0.5, rtol: 0.1, l2: 2.5e-2 };
        assert_close(name, &rounded, &exact, near);
        let error = relative_l2(&rounded, &exact);
        println!("{name} block: relative L2 {error:.4}");
        assert!(error > 1e-3, "{name}: nothing was rounded");
    }
}
