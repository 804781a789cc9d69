//! `layernorm` against plain loops in f64.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::layernorm::layernorm;

use crate::common::F32;
use crate::common::assert_close;
use crate::common::gpu;
use crate::narrow;
use crate::random;

/// LayerNorm of one row in f64, without affine parameters.
pub(crate) fn normalized(row: &[f32], eps: f64) -> Vec<f64> {
    let count = row.len() as f64;
    let mean = row.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = row.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    row.iter().map(|&value| (f64::from(value) - mean) / (variance + eps).sqrt()).collect()
}

#[test]
fn against_f64() {
    for (seq, hidden) in [(1, 1), (3, 33), (17, 192), (2, 3072)] {
        let x: Tensor<Act, 2> = random([seq, hidden], 1);
        let weight: Tensor<f32, 1> = random([hidden], 2);
        let bias: Tensor<f32, 1> = random([hidden], 3);
        let mut out = Tensor::zeros([seq, hidden]);
        layernorm(out.matrix_mut(), x.matrix(), &weight, &bias, 1e-5).unwrap();
        let expected: Vec<f32> = (0..seq)
            .flat_map(|row| normalized(x.matrix().row(row), 1e-5).into_iter().enumerate())
            .map(|(column, value)| {
                let weight = f64::from(weight.host()[column]);
                narrow(value * weight + f64::from(bias.host()[column]))
            })
            .collect();
        assert_close("layernorm", out.host(), &expected, F32);
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let x: Tensor<Act, 2> = random([2, 4], 1);
    let short: Tensor<f32, 1> = random([3], 2);
    let bias: Tensor<f32, 1> = random([4], 2);
    let mut out = Tensor::zeros([2, 4]);
    let error = layernorm(out.matrix_mut(), x.matrix(), &short, &bias, 1e-5).unwrap_err();
    assert_eq!(error.to_string(), "layernorm: weight has shape [3], expected [4]");
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for [seq, hidden, pad] in gpu.norm_shapes() {
        gpu.agrees(&format!("{seq} x {hidden}, beside {pad}"), gpu::BF16, |device| {
            let x = gpu::act(device, gpu::around([seq, hidden], pad), 1);
            let weight = gpu::f32s(device, [hidden], 2);
            let bias = gpu::f32s(device, [hidden], 3);
            let mut out = gpu::framed(device, [seq, hidden], pad);
            let view = gpu::inside_mut(&mut out, pad);
            layernorm(view, gpu::inside(&x, pad), &weight, &bias, 1e-5).unwrap();
            gpu::unframed(out, pad)
        });
    }
}
