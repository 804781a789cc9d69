//! MT19937 as `at::mt19937` seeds and reads it (Matsumoto and Nishimura, 1998).

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// The generator behind a CPU `torch.Generator`.
pub(super) struct Mt19937 {
    state: [u32; WORDS],
    next: usize,
}

impl Mt19937 {
    /// Only the lower 32 bits of the seed count, as in `PyTorch`.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = [0; WORDS];
        let mut word = (seed & 0xffff_ffff) as u32;
        for (slot, index) in state.iter_mut().zip(1u32..) {
            *slot = word;
            word = (word ^ (word >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index);
        }
        Self { state, next: WORDS }
    }

    pub(super) fn next_u32(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for i in 0..WORDS {
            let joined =
                (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % WORDS] & 0x7fff_ffff);
            let magic = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT) % WORDS] ^ (joined >> 1) ^ magic;
        }
    }

    /// In [0, 1): 24 bits, as many as f32 holds evenly below 1.
    pub(super) fn uniform_f32(&mut self) -> f32 {
        const UNIT: f32 = 1.0 / 16_777_216.0;
        (self.next_u32() & 0x00ff_ffff) as f32 * UNIT
    }

    /// In [0, 1): 53 bits of two words, the first being the upper one.
    pub(super) fn uniform_f64(&mut self) -> f64 {
        const UNIT: f64 = 1.0 / 9_007_199_254_740_992.0;
        let high = u64::from(self.next_u32());
        let word = (high << 32) | u64::from(self.next_u32());
        (word & ((1 << 53) - 1)) as f64 * UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_the_reference_generators() {
        for (seed, expected) in [
            (0, [2_357_136_044, 2_546_248_239, 3_071_714_933]),
            (42, [1_608_637_542, 3_421_126_067, 4_083_286_876]),
            // The upper half of a seed does not count.
            ((7 << 32) + 42, [1_608_637_542, 3_421_126_067, 4_083_286_876]),
        ] {
            let mut generator = Mt19937::new(seed);
            assert_eq!([(); 3].map(|()| generator.next_u32()), expected, "seed {seed}");
        }
    }

    #[test]
    fn the_10000th_word_is_the_one_the_cpp_standard_names() {
        let mut generator = Mt19937::new(5489);
        assert_eq!((0..10_000).map(|_| generator.next_u32()).last(), Some(4_123_659_995));
    }
}
