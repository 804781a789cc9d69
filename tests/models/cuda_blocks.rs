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
use flux_rt::model::plan::DoublePlan;
use flux_rt::model::plan::SinglePlan;
use flux_rt::model::weights::flux::DoubleBlockWeights;
use flux_rt::model::weights::flux::SingleBlockWeights;
use flux_rt::model::weights::flux::StreamWeights;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;

use crate::common::Tolerance;
use crate::common::gpu;

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

fn linear(device: &Device, [n, k]: [usize; 2], seed: u64) -> Linear {
    Linear {
        weight: Weight::Bf16(gpu::weights(device, [n, k], seed)),
        bias: Some(gpu::f32s(device, [n], seed + 1)),
    }
}

fn stream(device: &Device, config: &FluxConfig, seed: u64) -> StreamWeights {
    let (hidden, mlp) = (config.hidden_size(), config.mlp_size());
    StreamWeights {
        qkv: linear(device, [3 * hidden, hidden], seed).into(),
        q_norm: gpu::f32s(device, [config.attention_head_dim], seed + 2),
        k_norm: gpu::f32s(device, [config.attention_head_dim], seed + 3),
        qk_bounds: [1.0; 2],
        out: linear(device, [hidden, hidden], seed + 4).into(),
        mlp_up: linear(device, [mlp, hidden], seed + 6).into(),
        mlp_down: linear(device, [hidden, mlp], seed + 8).into(),
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

#[test]
fn cuda_double_block_agrees_with_the_cpu() {
    let Some(gpu) = gpu::gpu() else { return };
    let config = config();
    gpu.agrees("double block", BLOCK, |device| {
        let prepared = prepared(device, &config);
        let weights = DoubleBlockWeights {
            txt: stream(device, &config, 10),
            img: stream(device, &config, 20),
        };
        let input: Tensor<Act, 2> = gpu::act(device, [SEQ, config.hidden_size()], 3);
        let step = gpu::to(device, Tensor::from_host([1], vec![1u32]));
        let modulation = ModulationLayout::new(&config).at(&prepared.modulation, &step);
        let Workspace { streams: [mut next, ..], mut scratch } =
            Workspace::new(device, &config, SEQ, &BlockPlans::plain([1, 1])).unwrap();
        let vectors = modulation.double(0);
        let (out, plan) = (BlockOutput::from(&mut next), DoublePlan::default());
        double_block::forward(out, &mut scratch, &input, &weights, &vectors, &prepared, &plan)
            .unwrap();
        gpu::host(next)
    });
}

#[test]
fn cuda_single_block_agrees_with_the_cpu() {
    let Some(gpu) = gpu::gpu() else { return };
    let config = config();
    let (hidden, mlp) = (config.hidden_size(), config.mlp_size());
    gpu.agrees("single block", BLOCK, |device| {
        let prepared = prepared(device, &config);
        let weights = SingleBlockWeights {
            linear1: linear(device, [3 * hidden + mlp, hidden], 30).into(),
            q_norm: gpu::f32s(device, [config.attention_head_dim], 32),
            k_norm: gpu::f32s(device, [config.attention_head_dim], 33),
            qk_bounds: [1.0; 2],
            linear2: linear(device, [hidden, hidden + mlp], 34).into(),
        };
        let input: Tensor<Act, 2> = gpu::act(device, [SEQ, hidden], 3);
        let step = gpu::to(device, Tensor::from_host([1], vec![1u32]));
        let modulation = ModulationLayout::new(&config).at(&prepared.modulation, &step);
        let Workspace { streams: [mut next, ..], mut scratch } =
            Workspace::new(device, &config, SEQ, &BlockPlans::plain([1, 1])).unwrap();
        let vectors = modulation.single(0);
        let (out, plan) = (BlockOutput::from(&mut next), SinglePlan::default());
        single_block::forward(out, &mut scratch, &input, &weights, vectors, &prepared, &plan)
            .unwrap();
        gpu::host(next)
    });
}
