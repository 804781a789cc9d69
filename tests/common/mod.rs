//! Comparing tensors: finite, per element, and in relative L2. NaN never passes.
#![allow(clippy::panic, reason = "what differs fails the test")]

pub(crate) mod gpu;

/// How far a result may lie from what is expected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    /// Absolute part, per element.
    pub(crate) atol: f64,
    /// Part relative to the expected element.
    pub(crate) rtol: f64,
    /// Relative L2 of the whole tensor.
    pub(crate) l2: f64,
}

/// One op or block in f32 against the reference: 1e-5 in relative L2; an element may lose more
/// where large terms cancel, hence the absolute part.
pub(crate) const F32: Tolerance = Tolerance { atol: 2e-5, rtol: 1e-4, l2: 1e-5 };

/// What is wrong with `actual`, if anything.
pub(crate) fn difference(
    actual: &[f32],
    expected: &[f32],
    tolerance: Tolerance,
) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} elements, expected {}", actual.len(), expected.len()));
    }
    let (mut error, mut norm) = (0.0, 0.0);
    // How far beyond the tolerance, and where.
    let (mut beyond, mut worst) = (0, (0.0, 0));
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        if !actual.is_finite() || !expected.is_finite() {
            return Err(format!("element {index} is {actual}, expected {expected}"));
        }
        let (actual, expected) = (f64::from(actual), f64::from(expected));
        let distance = (actual - expected).abs();
        let excess = distance - (tolerance.atol + tolerance.rtol * expected.abs());
        if excess > 0.0 {
            beyond += 1;
            if excess > worst.0 {
                worst = (excess, index);
            }
        }
        error += distance * distance;
        norm += expected * expected;
    }
    let l2 = if norm > 0.0 { (error / norm).sqrt() } else { error.sqrt() };
    if beyond > 0 {
        let (index, len) = (worst.1, actual.len());
        return Err(format!(
            "element {index} is {}, expected {}, the worst of {beyond} in {len} beyond the tolerance; \
             relative L2 error {l2:e}",
            actual[index], expected[index]
        ));
    }
    if l2 <= tolerance.l2 { Ok(()) } else { Err(format!("relative L2 error {l2:e}")) }
}

/// Fails the test with `what` unless the two agree.
#[track_caller]
pub(crate) fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: Tolerance) {
    if let Err(reason) = difference(actual, expected, tolerance) {
        panic!("{what}: {reason}");
    }
}

/// Numbers in [-1, 1) that look random and repeat: a 64-bit linear congruential generator.
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            #[expect(clippy::cast_precision_loss, reason = "24 bits fit f32")]
            let unit = (state >> 40) as f32 / (1u64 << 24) as f32;
            2.0 * unit - 1.0
        })
        .collect()
}

#[test]
fn the_comparison_can_fail() {
    let good = random(64, 1);
    assert!(difference(&good, &good, F32).is_ok());
    let mut bad = good.clone();
    bad[17] = f32::NAN;
    assert!(difference(&bad, &good, F32).is_err(), "NaN");
    assert!(difference(&good, &bad, F32).is_err(), "NaN expected");
    assert!(difference(&bad, &bad, F32).is_err(), "NaN on both sides");
    let mut bad = good.clone();
    bad.swap(3, 4);
    assert!(difference(&bad, &good, F32).is_err(), "swap");
    let mut bad = good.clone();
    bad[63] += 1e-3;
    assert!(difference(&bad, &good, F32).is_err(), "one wrong element");
    assert!(difference(&good[1..], &good, F32).is_err(), "length");
    // Every element a little off: each passes alone, the whole does not.
    let bad: Vec<f32> = good.iter().map(|value| value + 1.5e-5).collect();
    assert!(difference(&bad, &good, F32).is_err(), "L2");
}
