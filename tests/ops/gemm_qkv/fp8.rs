//! `gemm_qkv` over e4m3 on the GPU, against the same on the CPU.

use flux_rt::device::Device;
use flux_rt::device::Quantized;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::device::e4m3;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm_qkv::QkvSegment;
use flux_rt::ops::gemm_qkv::gemm_qkv;
use flux_rt::ops::quantize::quantize;

use super::Stream;
use crate::common::Tolerance;
use crate::common::gpu;

const HEAD_DIM: usize = 128;

fn quantized(device: &Device, shape: [usize; 2], seed: u64) -> Quantized {
    let x = gpu::act(&Device::Cpu, shape, seed);
    let mut out = Quantized::empty(&Device::Cpu, shape, Scaling::Row).unwrap();
    quantize(out.view_mut(), x.matrix()).unwrap();
    out.to_device(device).unwrap()
}

/// q, k, v, and behind them the MLP's columns as the numbers that they stand for.
fn run(device: &Device, rows: [usize; 2], heads: usize, [k, mlp]: [usize; 2]) -> Vec<f32> {
    let (seq, n) = (rows[0] + rows[1], 3 * heads * HEAD_DIM + mlp);
    let a = quantized(device, [seq, k], 1);
    let rope = gpu::f32s(device, [seq, HEAD_DIM / 2, 2], 2);
    let streams = [3, 7].map(|seed| Stream {
        linear: Linear {
            weight: Weight::Fp8(quantized(device, [n, k], seed)),
            bias: Some(gpu::f32s(device, [n], seed + 1)),
        },
        q_norm: gpu::f32s(device, [HEAD_DIM], seed + 2),
        k_norm: gpu::f32s(device, [HEAD_DIM], seed + 3),
    });
    let segments = [(0, 0..rows[0]), (1, rows[0]..seq)].map(|(index, rows)| QkvSegment {
        rows,
        linear: &streams[index].linear,
        q_norm: &streams[index].q_norm,
        k_norm: &streams[index].k_norm,
    });
    let count = if rows[1] == 0 { 1 } else { 2 };
    let mut qkv = Tensor::empty(device, [seq, 3, heads, HEAD_DIM]).unwrap();
    let mut hidden = Quantized::empty(device, [seq, mlp.max(16)], Scaling::Block).unwrap();
    let out = (mlp > 0).then(|| hidden.view_mut().into());
    gemm_qkv(&mut qkv, out, a.view(), &segments[..count], &rope).unwrap();
    // Sums of K products are of the size of its root; norms take that away from q and k.
    let size = f32::from(u16::try_from(k).unwrap()).sqrt() / 3.0;
    let is_value = |index: usize| index / (heads * HEAD_DIM) % 3 == 2;
    let qkv = gpu::host(qkv).into_iter().enumerate();
    let mut numbers: Vec<f32> =
        qkv.map(|(index, x)| if is_value(index) { x / size } else { x }).collect();
    if mlp > 0 {
        let hidden = hidden.to_device(&Device::Cpu).unwrap();
        let view = hidden.view();
        for row in 0..seq {
            let scale = |column: usize| view.scales.row(column / 128)[row] / size;
            let values = view.values.row(row).iter().enumerate();
            numbers.extend(values.map(|(column, &byte)| e4m3::to_f32(byte) * scale(column)));
        }
    }
    numbers
}

#[test]
fn cuda_fp8_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    if !gpu.has_fp8() {
        return println!("skipped: no kernels for e4m3 on this GPU");
    }
    // Hidden numbers are a step of e4m3 apart where sums in another order turn them.
    let tolerance = Tolerance { atol: 6e-2, rtol: 0.14, l2: 2e-2 };
    let small = [([1, 0], 2, [16, 0]), ([63, 2], 2, [144, 256]), ([130, 257], 4, [272, 400])];
    let real = [([512, 4096], 24, [3072, 0]), ([4608, 0], 24, [3072, 12_288])];
    for (rows, heads, widths) in small.into_iter().chain(real.into_iter().filter(|_| !gpu.small()))
    {
        gpu.agrees_on_best(&format!("{rows:?} {heads} {widths:?}"), tolerance, |device| {
            run(device, rows, heads, widths)
        });
    }
}
