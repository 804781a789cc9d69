//! `gated_gelu` against f64.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::gated_gelu::gated_gelu;

use crate::common::F32;
use crate::common::assert_close;
use crate::common::gpu;
use crate::gelu;
use crate::narrow;
use crate::random;

#[test]
fn the_first_half_is_activated() {
    let (seq, width) = (7, 33);
    let mut hidden: Tensor<Act, 2> = random([seq, 2 * width], 1);
    hidden.host_mut().iter_mut().for_each(|value| *value *= 4.0);
    let mut out = Tensor::zeros([seq, width]);
    gated_gelu(out.matrix_mut(), hidden.matrix()).unwrap();
    let expected: Vec<f32> = (0..seq * width)
        .map(|index| {
            let row = hidden.matrix().row(index / width);
            let column = index % width;
            narrow(gelu(f64::from(row[column])) * f64::from(row[width + column]))
        })
        .collect();
    assert_close("gated_gelu", out.host(), &expected, F32);
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let widths = [1, 7, 8, 33, 64, 2040, 2047, 2048, 2049, 2056, 10_240];
    for (index, width) in widths.into_iter().enumerate() {
        for (seq, pad) in [(1, 0), (3, 8), (65, 3)] {
            let seq = if index % 4 == 0 && !gpu.small() { 4 * seq } else { seq };
            gpu.agrees(&format!("{seq} x {width}, beside {pad}"), gpu::BF16, |device| {
                let mut hidden = gpu::act(&Device::Cpu, gpu::around([seq, 2 * width], pad), 1);
                hidden.host_mut().iter_mut().for_each(|value| *value *= 4.0);
                let hidden = gpu::to(device, hidden);
                let mut out = gpu::framed(device, [seq, width], pad);
                gated_gelu(gpu::inside_mut(&mut out, pad), gpu::inside(&hidden, pad)).unwrap();
                gpu::unframed(out, pad)
            });
        }
    }
}
