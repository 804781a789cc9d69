//! The networks against what diffusers and transformers compute, block by block and whole.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper of a test may fail it; ids and sizes are small, and tables must be equal"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../golden/mod.rs"]
mod golden;

mod cuda_blocks;
mod flux;
mod offload;
mod text_encoders;
mod vae;

use std::collections::BTreeMap;

use flux_rt::device::Element;
use flux_rt::device::Tensor;
use flux_rt::files::Folder;
use flux_rt::model::weights::checkpoint::Checkpoint;

/// The two pipelines of `tests/goldens`.
const FOLDERS: [&str; 2] = ["dev", "schnell"];

/// A pipeline's folder.
fn folder(name: &str) -> Folder {
    Folder::Disk(golden::path(name))
}

/// The weights of one component.
fn checkpoint(pipeline: &str, component: &str) -> Checkpoint {
    let folder = folder(pipeline).folder(component).expect("the component's folder");
    Checkpoint::open_folder(&folder).expect("the component's weights")
}

/// The expected tensors of a pipeline.
struct Expected(BTreeMap<String, Vec<f64>>);

impl Expected {
    fn of(pipeline: &str) -> Self {
        Self(golden::tensors(&format!("{pipeline}/expected.safetensors")))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn values(&self, name: &str) -> Vec<f32> {
        golden::narrow(self.0.get(name).unwrap_or_else(|| panic!("no expected `{name}`")))
    }

    /// The tensor `[rows, columns]` with the columns that it must have.
    fn matrix<T: Element<Host = f32>>(&self, name: &str, columns: usize) -> Tensor<T, 2> {
        let values = self.values(name);
        Tensor::from_host([values.len() / columns, columns], values)
    }

    /// A tensor `[C, H, W]` as `[H, W, C]`.
    fn image<T: Element<Host = f32>>(&self, name: &str, [c, h, w]: [usize; 3]) -> Tensor<T, 3> {
        let values = self.values(name);
        assert_eq!(values.len(), c * h * w, "{name}");
        let last = (0..h * w * c).map(|index| values[index % c * h * w + index / c]).collect();
        Tensor::from_host([h, w, c], last)
    }
}
