//! Reads the files of `tests/goldens`.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::panic,
    reason = "f32 was widened before, and a missing golden fails the test"
)]

#[path = "../common/data.rs"]
pub(crate) mod data;

use std::collections::BTreeMap;

use half::bf16;
use safetensors::Dtype;
use safetensors::SafeTensors;

/// Every tensor of `tests/goldens/<file>` by name, each dtype widened to f64.
pub(crate) fn tensors(file: &str) -> BTreeMap<String, Vec<f64>> {
    let bytes = read(file);
    let tensors = SafeTensors::deserialize(&bytes).expect("a golden file is sound");
    let widen = |dtype: Dtype, data: &[u8]| -> Vec<f64> {
        match dtype {
            Dtype::BF16 => data
                .chunks_exact(2)
                .map(|two| bf16::from_le_bytes([two[0], two[1]]).to_f64())
                .collect(),
            Dtype::F32 => {
                data.as_chunks().0.iter().map(|&four| f64::from(f32::from_le_bytes(four))).collect()
            }
            Dtype::F64 => {
                data.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect()
            }
            Dtype::I32 => {
                data.as_chunks().0.iter().map(|&four| f64::from(i32::from_le_bytes(four))).collect()
            }
            Dtype::U8 => data.iter().map(|&byte| f64::from(byte)).collect(),
            other => panic!("{file}: no reader for {other:?}"),
        }
    };
    tensors.iter().map(|(name, view)| (name.to_owned(), widen(view.dtype(), view.data()))).collect()
}

/// f32 values that [`tensors`] widened.
pub(crate) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// A JSON file of `tests/goldens`.
pub(crate) fn json(file: &str) -> serde_json::Value {
    serde_json::from_slice(&read(file)).expect("a golden file is sound")
}

/// The bytes of a file of `tests/goldens`.
#[expect(clippy::disallowed_methods, reason = "a test may read its fixture as it likes")]
pub(crate) fn read(file: &str) -> Vec<u8> {
    std::fs::read(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Where a file of `tests/goldens` lies.
pub(crate) fn path(file: &str) -> std::path::PathBuf {
    data::path("tests/goldens").join(file)
}
