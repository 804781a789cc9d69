//! Oracle of `noise`: `PyTorch`'s generators and their ways from random words to normal numbers.
//!
//! [`mt19937`] and [`philox`] are the generators, [`box_muller`] is the f32 transform of the CPU
//! generator with the rounding of its AVX2 code.

mod box_muller;
mod mt19937;
pub(super) mod philox;

use std::f64::consts::TAU;

use half::bf16;

use crate::ops::noise::NoiseDtype;
use crate::ops::noise::NoiseSource;
use mt19937::Mt19937;

/// Tensors below this size are drawn value by value in f64, larger ones in groups of this size.
const GROUP: usize = 16;

pub(in crate::ops) fn noise(out: &mut [f32], source: NoiseSource, seed: u64) {
    match source {
        NoiseSource::TorchCuda { grid, dtype } => {
            philox::normals(out, grid.blocks(), seed);
            round(out, dtype);
        }
        NoiseSource::TorchCpu { dtype } => {
            cpu_normals(out, seed, Mt19937::uniform_f32, box_muller::avx2);
            round(out, dtype);
        }
        NoiseSource::TorchCpuLegacy => {
            cpu_normals(out, seed, uniform_bf16, box_muller_bf16);
            round(out, NoiseDtype::Bf16);
        }
    }
}

/// Rounds to the dtype. Every generator ends with `* std + mean`, here 1 and 0, which turns -0 into 0.
fn round(out: &mut [f32], dtype: NoiseDtype) {
    for value in out {
        *value += 0.0;
        if dtype == NoiseDtype::Bf16 {
            *value = to_bf16(*value);
        }
    }
}

/// The nearest bf16, ties to even.
fn to_bf16(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

/// `normal_fill` of `aten/src/ATen/native/cpu/DistributionTemplates.h`: uniforms for all elements,
/// then pairs `j`, `j + 8` of every 16 become normals. The last, incomplete group moves back until
/// it is whole and draws anew, so it overwrites part of its predecessor.
fn cpu_normals(
    out: &mut [f32],
    seed: u64,
    uniform: fn(&mut Mt19937) -> f32,
    transform: fn(f32, f32) -> [f32; 2],
) {
    let mut generator = Mt19937::new(seed);
    let count = out.len();
    if count < GROUP {
        return few_normals(out, &mut generator);
    }
    out.fill_with(|| uniform(&mut generator));
    for group in out.chunks_exact_mut(GROUP) {
        transform_group(group, transform);
    }
    if !count.is_multiple_of(GROUP) {
        let last = &mut out[count - GROUP..];
        last.fill_with(|| uniform(&mut generator));
        transform_group(last, transform);
    }
}

fn transform_group(group: &mut [f32], transform: fn(f32, f32) -> [f32; 2]) {
    let (first, second) = group.split_at_mut(GROUP / 2);
    for (first, second) in first.iter_mut().zip(second) {
        [*first, *second] = transform(*first, *second);
    }
}

/// `normal_distribution<double>` of `aten/src/ATen/core/DistributionsHelper.h`: the sine half of a
/// pair is kept for the next value.
#[expect(clippy::cast_possible_truncation, reason = "the reference computes in f64, stores f32")]
fn few_normals(out: &mut [f32], generator: &mut Mt19937) {
    for pair in out.chunks_mut(2) {
        let angle = TAU * generator.uniform_f64();
        let radius = (-2.0 * (-generator.uniform_f64()).ln_1p()).sqrt();
        let normals = [radius * angle.cos(), radius * angle.sin()];
        for (out, normal) in pair.iter_mut().zip(normals) {
            *out = normal as f32;
        }
    }
}

/// Only 8 bits: what bf16 can hold evenly below 1.
fn uniform_bf16(generator: &mut Mt19937) -> f32 {
    f32::from(generator.next_u32().to_le_bytes()[0]) / 256.0
}

/// Box-Muller with every intermediate rounded to bf16, as scalar bf16 C++ code does.
#[expect(clippy::cast_possible_truncation, reason = "the angle is an f64 product, stored as bf16")]
fn box_muller_bf16(radius_uniform: f32, angle_uniform: f32) -> [f32; 2] {
    let ln = to_bf16((1.0 - radius_uniform).ln());
    let radius = to_bf16((-2.0 * ln).sqrt());
    let angle = to_bf16((TAU * f64::from(angle_uniform)) as f32);
    [radius * to_bf16(angle.cos()), radius * to_bf16(angle.sin())]
}
