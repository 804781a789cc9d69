//! `add_scaled` on numbers that can be added by hand.

use flux_rt::Error;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::add_scaled::add_scaled;

use crate::common::gpu;
use crate::random;

#[test]
fn hand_worked() {
    let a = Tensor::<Act, 2>::from_host([2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let b = Tensor::from_host([2, 2], vec![0.5, -8.0, 0.0, 1.0]);
    let mut out = Tensor::zeros([2, 2]);
    for (scale, expected) in [
        (1.0, [1.5, -6.0, 3.0, 5.0]),
        (-1.0, [0.5, 10.0, 3.0, 3.0]),
        (0.25, [1.125, 0.0, 3.0, 4.25]),
        (0.0, [1.0, 2.0, 3.0, 4.0]),
    ] {
        add_scaled(out.matrix_mut(), a.matrix(), b.matrix(), scale).unwrap();
        assert_eq!(out.host(), expected, "{scale}");
    }
}

#[test]
fn views_keep_what_is_beside_them() {
    let (a, b): (Tensor<Act, 2>, Tensor<Act, 2>) = (random([5, 9], 1), random([3, 4], 2));
    let mut out = Tensor::<Act, 2>::from_host([4, 6], vec![7.0; 24]);
    let view = out.matrix_mut().rows(1..4).columns(1..5);
    add_scaled(view, a.matrix().rows(2..5).columns(3..7), b.matrix(), -1.0).unwrap();
    for (row, values) in out.host().chunks_exact(6).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            let inside = row > 0 && (1..5).contains(&column);
            let expected = match inside {
                true => a.host()[(row + 1) * 9 + column + 2] - b.host()[(row - 1) * 4 + column - 1],
                false => 7.0,
            };
            assert_eq!(value, expected, "row {row}, column {column}");
        }
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let mut out = Tensor::<Act, 2>::zeros([2, 4]);
    let (fits, other) = (Tensor::zeros([2, 4]), Tensor::zeros([2, 3]));
    let result = add_scaled(out.matrix_mut(), other.matrix(), fits.matrix(), 1.0);
    assert!(matches!(result, Err(Error::Shape { tensor: "a", .. })));
    let result = add_scaled(out.matrix_mut(), fits.matrix(), other.matrix(), 1.0);
    assert!(matches!(result, Err(Error::Shape { tensor: "b", .. })));
}

#[test]
fn cuda_agrees_exactly_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let edges = [[1, 1], [3, 5], [1, 64], [1, 4095], [1, 4096], [1, 4097], [513, 8], [33, 125]];
    let real = [[4608, 3072], [4096, 3072]].into_iter().filter(|_| !gpu.small());
    for shape in edges.into_iter().chain(real) {
        for scale in [1.0, -1.0] {
            gpu.agrees_exactly(&format!("{shape:?}, scale {scale}"), |device| {
                let (a, b) = (gpu::act(device, shape, 1), gpu::act(device, shape, 2));
                let mut out = gpu::framed(device, shape, 0);
                let view = gpu::inside_mut(&mut out, 0);
                add_scaled(view, a.matrix(), b.matrix(), scale).unwrap();
                gpu::unframed(out, 0)
            });
        }
    }
    // A factor that is not a power of two: a fused multiply-add here, two operations there.
    gpu.agrees("scale 0.3", gpu::BF16, |device| {
        let (a, b) = (gpu::act(device, [77, 64], 1), gpu::act(device, [77, 64], 2));
        let mut out = gpu::framed(device, [77, 64], 0);
        add_scaled(gpu::inside_mut(&mut out, 0), a.matrix(), b.matrix(), 0.3).unwrap();
        gpu::unframed(out, 0)
    });
}

#[test]
fn cuda_needs_rows_behind_one_another() {
    let Some(gpu) = gpu::gpu() else { return };
    let (a, b) = (gpu::act(&gpu, [4, 16], 1), gpu::act(&gpu, [4, 8], 2));
    let mut out = gpu::framed(&gpu, [4, 8], 0);
    let view = gpu::inside_mut(&mut out, 0);
    let error = add_scaled(view, a.matrix().columns(0..8), b.matrix(), 1.0).unwrap_err();
    let expected = "add_scaled: a has shape a row every 16, expected rows of 8 behind one another";
    assert_eq!(error.to_string(), expected);
}
