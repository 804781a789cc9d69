//! Oracle of `random_normal`.

use half::bf16;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use crate::ops::cpu::noise::philox::normals_of;
use crate::ops::random_normal::RandomStream;

pub(crate) fn random_normal(out: &mut [bf16], std: f32, random: RandomStream) {
    out.par_chunks_mut(4).with_min_len(1 << 12).enumerate().for_each(|(index, out)| {
        let normals = normals_of([index as u64, u64::from(random.stream)], random.seed);
        for (out, normal) in out.iter_mut().zip(normals) {
            *out = bf16::from_f32(std * normal);
        }
    });
}
