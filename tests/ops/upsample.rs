//! `upsample` on a hand-worked image.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::upsample::upsample;

use crate::common::gpu;

#[test]
fn every_pixel_becomes_four() {
    let x = Tensor::<Act, 3>::from_host([1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let mut out = Tensor::zeros([2, 4, 2]);
    upsample(&mut out, &x).unwrap();
    let row = [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0];
    assert_eq!(out.host(), [row, row].concat());
}

#[test]
fn another_size_is_refused() {
    let x = Tensor::<Act, 3>::zeros([1, 2, 2]);
    let mut out = Tensor::zeros([2, 2, 2]);
    let error = upsample(&mut out, &x).unwrap_err();
    assert_eq!(error.to_string(), "upsample: out has shape [2, 2, 2], expected [2, 4, 2]");
}

#[test]
fn cuda_agrees_exactly_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for [height, width, channels] in
        [[1, 1, 1], [2, 3, 7], [3, 5, 8], [7, 255, 8], [2, 257, 8], [5, 33, 64], [64, 64, 512]]
    {
        gpu.agrees_exactly(&format!("{height} x {width} x {channels}"), |device| {
            let x = gpu::act(device, [height, width, channels], 1);
            let mut out = Tensor::empty(device, [2 * height, 2 * width, channels]).unwrap();
            upsample(&mut out, &x).unwrap();
            gpu::host(out)
        });
    }
}
