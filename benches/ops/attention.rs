//! `attention`: the transformer's, T5's, CLIP's and the VAE's; on the CPU 4 heads of 128.
//! FLOPs are those of all query-key pairs, also where a mask hides half of them.

use flux_rt::device::Act;
use flux_rt::device::Quantized;
use flux_rt::device::QuantizedQkv;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::ops::attention::Mask;
use flux_rt::ops::attention::attention;
use flux_rt::ops::attention::attention_fp8;
use flux_rt::ops::quantize_qkv::quantize_qkv;

use crate::Bench;
use crate::Work;

#[derive(Clone, Copy, PartialEq)]
enum Masked {
    No,
    Causal,
    Relative,
}

pub(crate) fn run(bench: &mut Bench) {
    let cuda: &[(&str, [usize; 3], usize, Masked)] = &[
        // In a block the output is the first part of wider rows.
        ("transformer 4608x24x128", [4608, 24, 128], 15_360, Masked::No),
        ("t5 512x64x64 relative", [512, 64, 64], 4096, Masked::Relative),
        ("clip 77x12x64 causal", [77, 12, 64], 768, Masked::Causal),
        ("vae 16384x1x512", [16_384, 1, 512], 512, Masked::No),
    ];
    let cpu: &[_] = &[("1024x4x128", [1024, 4, 128], 512, Masked::No)];
    for &(name, shape, out_width, masked) in bench.pick(cpu, cuda) {
        case(bench, name, shape, out_width, masked);
    }
    let cuda: &[_] = &[("transformer 4608x24x128 e4m3", [4608, 24, 128], 15_360)];
    let cpu: &[_] = &[("1024x4x128 e4m3", [1024, 4, 128], 512)];
    for &(name, shape, out_width) in bench.pick(cpu, cuda) {
        quantised(bench, name, shape, out_width);
    }
}

fn scale(head_dim: usize) -> f32 {
    1.0 / f32::from(u16::try_from(head_dim).expect("small")).sqrt()
}

/// From e4m3 to e4m3; what quantises for it is a bench of its own.
fn quantised(bench: &mut Bench, name: &str, [seq, heads, head_dim]: [usize; 3], out_width: usize) {
    let width = heads * head_dim;
    let (flops, bytes) = (4 * seq * seq * width, 4 * seq * width);
    let work = Work { flops, bytes, fp8: true, ..Work::default() };
    bench.case("attention", name, work, |device| {
        let qkv: Tensor<Act, 4> = crate::random(device, [seq, 3, heads, head_dim], 1)?;
        let mut quantized = QuantizedQkv::empty(device, [seq, heads, head_dim])?;
        let units = crate::units(device, width)?;
        quantize_qkv(&mut quantized, &qkv, [5.0; 2], &units)?;
        let mut out = Quantized::empty(device, [seq, out_width], Scaling::Units)?;
        Ok(move || {
            let out = out.view_mut().columns(0..width);
            attention_fp8(out, &quantized, &units, scale(head_dim))
        })
    });
}

fn case(bench: &mut Bench, name: &str, shape: [usize; 3], out_width: usize, masked: Masked) {
    let [seq, heads, head_dim] = shape;
    let width = heads * head_dim;
    let bias_shape = [heads, 2 * seq - 1];
    let relative = masked == Masked::Relative;
    let work = Work {
        flops: 4 * seq * seq * width,
        values: 4 * seq * width,
        bytes: if relative { 4 * bias_shape[0] * bias_shape[1] } else { 0 },
        ..Work::default()
    };
    bench.case("attention", name, work, |device| {
        let qkv: Tensor<Act, 4> = crate::random(device, [seq, 3, heads, head_dim], 1)?;
        let bias = relative.then(|| crate::random(device, bias_shape, 2)).transpose()?;
        let mut out = Tensor::<Act, 2>::empty(device, [seq, out_width])?;
        Ok(move || {
            let mask = match &bias {
                Some(bias) => Mask::Relative(bias),
                None if masked == Masked::Causal => Mask::Causal,
                None => Mask::None,
            };
            attention(out.matrix_mut().columns(0..width), &qkv, mask, scale(head_dim))
        })
    });
}
