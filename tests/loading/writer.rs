//! Writes safetensors files, sound ones and broken ones.

use std::path::Path;
use std::path::PathBuf;

use flux_rt::files;
use flux_rt::files::File;
use serde_json::Value;
use serde_json::json;

/// A safetensors file in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer {
    pub tensors: Vec<(String, Tensor)>,
    pub metadata: Option<Value>,
}

#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn add(&mut self, name: &str, dtype: &'static str, shape: &[usize], bytes: &[u8]) {
        let tensor = Tensor { dtype, shape: shape.into(), bytes: bytes.into() };
        self.tensors.push((name.into(), tensor));
    }

    pub(crate) fn f32(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.add(name, "F32", shape, &bytes);
    }

    /// Every tensor of a file that some test wrote or that is a golden.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = files::map(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut writer = Self::default();
        let mut all = tensors.tensors();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, tensor) in all {
            let dtype = match format!("{:?}", tensor.dtype()).as_str() {
                "F32" => "F32",
                "F16" => "F16",
                "BF16" => "BF16",
                "F8_E4M3" => "F8_E4M3",
                "U8" => "U8",
                "I64" => "I64",
                other => panic!("{other}"),
            };
            writer.add(&name, dtype, tensor.shape(), tensor.data());
        }
        writer
    }

    pub(crate) fn get(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|(other, _)| other == name);
        &mut found.unwrap_or_else(|| panic!("no tensor {name}")).1
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn prefixed(mut self, prefix: &str) -> Self {
        self.tensors.iter_mut().for_each(|(name, _)| *name = format!("{prefix}{name}"));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = Vec::new();
        let mut data = Vec::new();
        if let Some(metadata) = &self.metadata {
            header.push(format!("\"__metadata__\":{metadata}"));
        }
        for (name, tensor) in &self.tensors {
            let offsets = [data.len(), data.len() + tensor.bytes.len()];
            let info =
                json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets});
            header.push(format!("{}:{info}", Value::from(name.as_str())));
            data.extend_from_slice(&tensor.bytes);
        }
        assemble(&format!("{{{}}}", header.join(",")), &data)
    }

    pub(crate) fn write(&self, path: &Path) -> File {
        write(path, &self.bytes())
    }
}

/// A file of a header and data as they are.
pub(crate) fn assemble(header: &str, data: &[u8]) -> Vec<u8> {
    let length = u64::try_from(header.len()).unwrap();
    [&length.to_le_bytes(), header.as_bytes(), data].concat()
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> File {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    files::write_atomic(path, bytes).unwrap();
    File::Disk(path.into())
}

/// A copy of a folder, to be damaged.
pub(crate) fn copy(from: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for name in files::list(from).unwrap() {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(source, target).unwrap();
        }
    }
    to.into()
}
