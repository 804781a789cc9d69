//! `quantize_qkv` against its formula, key by key.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::QuantizedQkv;
use flux_rt::device::Tensor;
use flux_rt::device::e4m3;
use flux_rt::device::quantized_qkv::key_position;
use flux_rt::ops::quantize_qkv::quantize_qkv;

use crate::common::gpu;
use crate::random;

/// Powers of two near the size of v.
fn units(device: &Device, channels: usize) -> Tensor<f32, 1> {
    let units = (0..channels).map(|index| [0.25, 0.5, 1.0, 2.0][index % 4]).collect();
    gpu::to(device, Tensor::from_host([channels], units))
}

#[test]
fn every_value_lies_where_it_should() {
    for (seq, heads, dim) in [(1, 1, 16), (17, 2, 32), (130, 3, 128)] {
        let qkv: Tensor<Act, 4> = random([seq, 3, heads, dim], 1);
        let mut out = QuantizedQkv::empty(&Device::Cpu, [seq, heads, dim]).unwrap();
        let units = units(&Device::Cpu, heads * dim);
        quantize_qkv(&mut out, &qkv, [1.0, 2.0], &units).unwrap();
        assert_eq!(out.qk_scales, [1.0 / 448.0, 2.0 / 448.0]);
        let width = heads * dim;
        let x = |key: usize, part: usize, at: usize| qkv.host()[(key * 3 + part) * width + at];
        let [_, _, padded] = out.v.shape();
        assert_eq!(padded, seq.next_multiple_of(128));
        for channel in 0..width {
            let values = &out.v.host()[channel * padded..][..padded];
            for key in 0..seq {
                let expected = e4m3::from_f32(x(key, 2, channel) / units.host()[channel]);
                assert_eq!(values[key_position(key)], expected, "channel {channel}, key {key}");
                for part in 0..2 {
                    let inverse = 1.0 / out.qk_scales[part];
                    let expected = e4m3::from_f32(x(key, part, channel) * inverse);
                    assert_eq!(out.qk.host()[(2 * key + part) * width + channel], expected);
                }
            }
            let beyond: Vec<usize> = (seq..padded).map(key_position).collect();
            assert!(beyond.iter().all(|&at| values[at] == 0), "channel {channel}");
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let qkv: Tensor<Act, 4> = random([4, 3, 2, 16], 1);
    let mut out = QuantizedQkv::empty(&Device::Cpu, [5, 2, 16]).unwrap();
    let error = quantize_qkv(&mut out, &qkv, [1.0; 2], &units(&Device::Cpu, 32)).unwrap_err();
    let expected = "quantize_qkv: out has shape [5, 2, 2, 16], expected [4, 2, 2, 16]";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn cuda_agrees_exactly_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for (seq, heads, dim) in [(1, 1, 16), (15, 3, 48), (17, 2, 128), (300, 24, 128), (1300, 3, 64)]
    {
        gpu.agrees(&format!("{seq} x {heads} x {dim}"), gpu::EXACT, |device| {
            let qkv = gpu::act(device, [seq, 3, heads, dim], 1);
            let mut out = QuantizedQkv::empty(device, [seq, heads, dim]).unwrap();
            quantize_qkv(&mut out, &qkv, [1.0, 1.5], &units(device, heads * dim)).unwrap();
            let QuantizedQkv { qk, v, .. } = out;
            gpu::host(qk).into_iter().chain(gpu::host(v)).map(f32::from).collect()
        });
    }
}
