//! `embedding` on hand-worked values.

use half::bf16;

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::embedding::embedding;
use flux_rt::ops::gemm::Weight;

use crate::common::gpu;

#[test]
fn rows_by_id_with_and_without_positions() {
    let table = Weight::F32(Tensor::from_host([3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let positions = [0.5, -0.5, 0.25, 1.0, 9.0, 9.0].map(bf16::from_f32).to_vec();
    let positions = Weight::Bf16(Tensor::from_host([3, 2], positions));
    let ids = Tensor::from_host([2], vec![2u32, 0]);
    let mut out = Tensor::<Act, 2>::zeros([2, 2]);
    embedding(out.matrix_mut(), &ids, &table, None).unwrap();
    assert_eq!(out.host(), [5.0, 6.0, 1.0, 2.0]);
    embedding(out.matrix_mut(), &ids, &table, Some(&positions)).unwrap();
    assert_eq!(out.host(), [5.5, 5.5, 1.25, 3.0]);
}

#[test]
fn ids_and_lengths_outside_the_tables_are_refused() {
    let table = Weight::F32(Tensor::zeros([3, 2]));
    let ids = Tensor::from_host([2], vec![2u32, 3]);
    let mut out = Tensor::<Act, 2>::zeros([2, 2]);
    let error = embedding(out.matrix_mut(), &ids, &table, None).unwrap_err();
    assert_eq!(error.to_string(), "embedding: ids has shape 3, expected ids below 3");
    let ids = Tensor::from_host([2], vec![0u32, 0]);
    let short = Weight::F32(Tensor::zeros([1, 2]));
    let error = embedding(out.matrix_mut(), &ids, &table, Some(&short)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "embedding: positions has shape [1, 2], expected at least [2, 2]"
    );
}

#[test]
fn cuda_agrees_exactly_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for (seq, hidden, pad) in
        [(1, 1, 0), (1, 8, 8), (3, 7, 3), (2, 768, 3), (77, 768, 0), (77, 1024, 8), (512, 4096, 0)]
    {
        for with_positions in [false, true] {
            let what = format!("{seq} x {hidden}, beside {pad}, positions {with_positions}");
            gpu.agrees_exactly(&what, |device| {
                let table = Weight::Bf16(gpu::weights(device, [99, hidden], 1));
                let positions = Weight::Bf16(gpu::weights(device, [seq + 5, hidden], 2));
                let ids: Vec<u32> = (0..seq).map(|row| [98, 0, 7, 41][row % 4]).collect();
                let ids = gpu::to(device, Tensor::from_host([seq], ids));
                let mut out = gpu::framed(device, [seq, hidden], pad);
                let view = gpu::inside_mut(&mut out, pad);
                embedding(view, &ids, &table, with_positions.then_some(&positions)).unwrap();
                gpu::unframed(out, pad)
            });
        }
    }
}
