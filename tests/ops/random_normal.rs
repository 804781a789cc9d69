//! `random_normal`: moments, and that streams and seeds differ.

use flux_rt::device::Tensor;
use flux_rt::ops::random_normal::RandomStream;
use flux_rt::ops::random_normal::random_normal;
use half::bf16;

use crate::common::gpu;

fn draw(len: usize, std: f32, seed: u64, stream: u32) -> Vec<f32> {
    let mut out = Tensor::<bf16, 2>::zeros([1, len]);
    random_normal(&mut out, std, RandomStream { seed, stream }).unwrap();
    out.host().iter().map(|value| value.to_f32()).collect()
}

#[test]
fn mean_spread_and_tails_are_those_of_a_normal_distribution() {
    let values = draw(1 << 18, 0.5, 7, 3);
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let square = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / count;
    assert!(mean.abs() < 4e-3, "{mean}");
    assert!((square - 0.25).abs() < 3e-3, "{square}");
    let beyond = values.iter().filter(|value| value.abs() > 1.0).count() as f64 / count;
    assert!((beyond - 0.0455).abs() < 2e-3, "two sigma: {beyond}");
}

#[test]
fn a_prefix_is_the_same_and_streams_and_seeds_differ() {
    let values = draw(1001, 1.0, 7, 3);
    assert_eq!(draw(998, 1.0, 7, 3), values[..998]);
    for other in [draw(1001, 1.0, 8, 3), draw(1001, 1.0, 7, 4)] {
        let same = values.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!(same < 20, "{same} of 1001");
    }
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let shapes = [[1, 1], [1, 7], [3, 3], [1, 2047], [1, 2048], [3, 683], [33, 4097]];
    for (index, shape) in shapes.into_iter().enumerate() {
        for seed in [0, (7 << 32) + 1234] {
            let random = RandomStream { seed, stream: [0, 3, u32::MAX][index % 3] };
            // Both are rounded, to neighbours where the card's fast sine falls across a tie.
            gpu.agrees(&format!("{shape:?}, {random:?}"), gpu::BF16, |device| {
                let mut out = Tensor::empty(device, shape).unwrap();
                random_normal(&mut out, 0.5, random).unwrap();
                gpu::host(out).into_iter().map(bf16::to_f32).collect()
            });
        }
    }
}
