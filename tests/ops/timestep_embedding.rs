//! `timestep_embedding` against the reference's known values.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::timestep_embedding::timestep_embedding;

use crate::common::gpu;

#[test]
fn known_values_at_1000() {
    let values = Tensor::from_host([2], vec![0.0, 1000.0]);
    let mut out = Tensor::<Act, 2>::zeros([2, 256]);
    timestep_embedding(out.matrix_mut(), &values).unwrap();
    assert!(out.host()[..128].iter().all(|&value| (value - 1.0).abs() < 1e-7));
    assert!(out.host()[128..256].iter().all(|&value| value.abs() < 1e-7));
    // Spec flux 3.3: the first four of the cosine part, then of the sine part.
    let row = out.matrix().row(1);
    let expected = [
        (0, 0.562_379),
        (1, 0.789_627),
        (2, 0.439_983),
        (3, -0.023_645),
        (128, 0.826_880),
        (129, 0.613_588),
        (130, -0.898_006),
        (131, 0.999_720),
    ];
    for (column, expected) in expected {
        let error = (row[column] - expected).abs();
        assert!(error <= 1.5e-4, "column {column} is {}, expected {expected}", row[column]);
    }
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    // Angles of up to 3,500: one in the last place of the frequency is 4e-4, below `atol`.
    for (rows, half, pad) in [(1, 1, 0), (1, 128, 0), (3, 127, 3), (50, 129, 8), (28, 128, 8)] {
        gpu.agrees(&format!("{rows} x {half}, beside {pad}"), gpu::BF16, |device| {
            let mut values = gpu::f32s(&Device::Cpu, [rows], 1);
            values.host_mut().iter_mut().for_each(|value| *value = 500.0 * (*value + 1.0));
            values.host_mut()[0] = 3500.0;
            let mut out = gpu::framed(device, [rows, 2 * half], pad);
            timestep_embedding(gpu::inside_mut(&mut out, pad), &gpu::to(device, values)).unwrap();
            gpu::unframed(out, pad)
        });
    }
}
