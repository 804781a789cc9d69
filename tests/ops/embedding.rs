//! `embedding` on hand-worked values.

use half::bf16;

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::embedding::embedding;
use flux_rt::ops::gemm::Weight;

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
