//! Oracle of `random_normal`.

use half::bf16;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use crate::ops::cpu::noise::philox::words;
use crate::ops::random_normal::RandomStream;

pub(crate) fn random_normal(out: &mut [bf16], std: f32, random: RandomStream) {
    out.par_chunks_mut(8).with_min_len(1 << 12).enumerate().for_each(|(index, out)| {
        let words = words([index as u64, u64::from(random.stream)], random.seed, 7);
        for (out, normal) in out.iter_mut().zip(words.into_iter().flat_map(normal_pair)) {
            *out = bf16::from_f32(std * normal);
        }
    });
}

fn normal_pair(word: u32) -> [f32; 2] {
    let unit = |half: u32| (half as f32 + 0.5) / 65536.0;
    let radius = (-2.0 * unit(word >> 16).ln()).sqrt();
    let (sine, cosine) = (std::f32::consts::TAU * unit(word & 0xffff)).sin_cos();
    [radius * sine, radius * cosine]
}
