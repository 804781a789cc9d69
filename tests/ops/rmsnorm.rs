//! `rmsnorm` against plain loops in f64.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::rmsnorm::rmsnorm;

use crate::common::F32;
use crate::common::assert_close;
use crate::common::gpu;
use crate::narrow;
use crate::random;

#[test]
fn against_f64() {
    for (seq, hidden) in [(1, 1), (3, 33), (2, 4096)] {
        let x: Tensor<Act, 2> = random([seq, hidden], 1);
        let weight: Tensor<f32, 1> = random([hidden], 2);
        let mut out = Tensor::zeros([seq, hidden]);
        rmsnorm(out.matrix_mut(), x.matrix(), &weight, 1e-6).unwrap();
        for row in 0..seq {
            let x = x.matrix().row(row);
            let mean = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / hidden as f64;
            let expected: Vec<f32> = x
                .iter()
                .zip(weight.host())
                .map(|(&x, &w)| narrow(f64::from(x) * f64::from(w) / (mean + 1e-6).sqrt()))
                .collect();
            assert_close("rmsnorm", out.matrix().row(row), &expected, F32);
        }
    }
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for [seq, hidden, pad] in gpu.norm_shapes() {
        gpu.agrees(&format!("{seq} x {hidden}, beside {pad}"), gpu::BF16, |device| {
            let x = gpu::act(device, gpu::around([seq, hidden], pad), 1);
            let weight = gpu::f32s(device, [hidden], 2);
            let mut out = gpu::framed(device, [seq, hidden], pad);
            let view = gpu::inside_mut(&mut out, pad);
            rmsnorm(view, gpu::inside(&x, pad), &weight, 1e-6).unwrap();
            gpu::unframed(out, pad)
        });
    }
}
