//! Philox 4x32-10 (Salmon et al., 2011) dealt out as `PyTorch`'s CUDA `normal_` does
//! (`aten/src/ATen/native/cuda/DistributionTemplates.h`, `curand_normal4`).

/// Threads of a block; four numbers come of one counter.
const THREADS: u64 = 256;
const MULTIPLIERS: [u64; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// As PyTorch draws.
const ROUNDS: usize = 10;
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// The four words of one counter after `rounds` rounds.
pub(in crate::ops::cpu) fn words(counter: [u64; 2], seed: u64, rounds: usize) -> [u32; 4] {
    philox(words_of(counter), halves(seed), rounds)
}

/// Fills `out` as a generator fresh from `manual_seed(seed)` does on a card that runs at most
/// `max_blocks` blocks: with P threads, thread `i` draws four numbers in round `r`, and number `j`
/// goes to element `i + P (4 r + j)`.
pub(super) fn normals(out: &mut [f32], max_blocks: u32, seed: u64) {
    let blocks = (out.len() as u64).div_ceil(THREADS).min(u64::from(max_blocks));
    let threads = blocks * THREADS;
    for (element, out) in (0u64..).zip(out) {
        let (thread, draw) = (element % threads, element / threads);
        let words = words([draw / 4, thread], seed, ROUNDS);
        *out = match draw % 4 {
            0 => normal_pair(words[0], words[1])[0],
            1 => normal_pair(words[0], words[1])[1],
            2 => normal_pair(words[2], words[3])[0],
            _ => normal_pair(words[2], words[3])[1],
        };
    }
}

/// Lower, upper.
fn halves(word: u64) -> [u32; 2] {
    [(word & 0xffff_ffff) as u32, (word >> 32) as u32]
}

fn words_of([low, high]: [u64; 2]) -> [u32; 4] {
    let ([c0, c1], [c2, c3]) = (halves(low), halves(high));
    [c0, c1, c2, c3]
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2], rounds: usize) -> [u32; 4] {
    for _ in 0..rounds {
        let [low0, high0] = halves(MULTIPLIERS[0] * u64::from(counter[0]));
        let [low1, high1] = halves(MULTIPLIERS[1] * u64::from(counter[2]));
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

/// Two words to two normals. The uniform and the angle round as on the card; its sine is an
/// instruction without a published formula, so from there on this computes in f64.
#[expect(clippy::cast_possible_truncation, reason = "the card's result is f32")]
fn normal_pair(radius_word: u32, angle_word: u32) -> [f32; 2] {
    const UNIT: f32 = 1.0 / 4_294_967_296.0;
    const ANGLE: f32 = UNIT * std::f32::consts::TAU;
    let uniform = (radius_word as f32).mul_add(UNIT, UNIT / 2.0);
    let angle = (angle_word as f32).mul_add(ANGLE, ANGLE / 2.0);
    let radius = (-2.0 * f64::from(uniform).ln()).sqrt();
    let (sin, cos) = f64::from(angle).sin_cos();
    [(radius * sin) as f32, (radius * cos) as f32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_random123_test_vectors() {
        assert_eq!(
            philox([0; 4], [0; 2], ROUNDS),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2], ROUNDS),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                ROUNDS
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
