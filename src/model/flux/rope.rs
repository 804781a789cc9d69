//! The rotary position table: cos and sin of every pair of head dimensions at every joint token.
//!
//! Spec flux 3.2: text tokens are at (0, 0, 0), image token (y, x) at (0, y, x); angles in f64,
//! cos and sin stored as f32.

use crate::device::Tensor;

/// Base of the frequencies in every FLUX.1 model.
const THETA: f64 = 10_000.0;

/// `[T + rows * columns, Dh / 2, 2]`, (cos, sin), for `txt_len` text tokens and an image of `rows`
/// by `columns` tokens; Dh is the sum of `axes`.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "angles are f64, the table is f32")]
pub fn table(txt_len: usize, rows: usize, columns: usize, axes: [usize; 3]) -> Tensor<f32, 3> {
    let pairs: usize = axes.iter().sum::<usize>() / 2;
    let seq = txt_len + rows * columns;
    let mut values = Vec::with_capacity(seq * pairs * 2);
    for token in 0..seq {
        let position = match token.checked_sub(txt_len) {
            None => [0, 0, 0],
            Some(index) => [0, index / columns, index % columns],
        };
        for (axis, dim) in axes.into_iter().enumerate() {
            for pair in 0..dim / 2 {
                let frequency = 1.0 / THETA.powf((2 * pair) as f64 / dim as f64);
                let angle = position[axis] as f64 * frequency;
                values.extend([angle.cos() as f32, angle.sin() as f32]);
            }
        }
    }
    Tensor::from_host([seq, pairs, 2], values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_identity_and_frequencies_are_the_specs() {
        let table = table(2, 2, 3, [16, 56, 56]);
        assert_eq!(table.shape(), [8, 64, 2]);
        assert!(table.host()[..2 * 128].chunks_exact(2).all(|pair| pair == [1.0, 0.0]));
        // Token (1, 2): axis 1 at dim 56, pair 1 has frequency 0.719685673001152 (spec 3.2).
        let row = &table.host()[7 * 128..];
        let angle = 0.719_685_673_001_152_f64;
        assert!((f64::from(row[2 * 9]) - angle.cos()).abs() < 1e-7);
        assert!((f64::from(row[2 * 9 + 1]) - angle.sin()).abs() < 1e-7);
        let angle = 2.0 * angle;
        assert!((f64::from(row[2 * 37]) - angle.cos()).abs() < 1e-7);
    }
}
