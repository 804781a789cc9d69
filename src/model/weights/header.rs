//! The header of a safetensors file, checked before anything in it is believed.
//!
//! Format: 8 bytes length of the header, little-endian; the header, a JSON object
//! `{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {text: text}}`; the data.
//! Stricter than the `safetensors` crate, whose parser lets the last of two equal names win.

mod json;

pub(crate) use json::UniqueMap;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;

use crate::error::Error;
use crate::error::Result;
use crate::error::json_error;
use crate::error::quoted;
use crate::model::weights::header::json::RawHeader;
use crate::model::weights::header::json::RawTensor;

const LENGTH_BYTES: usize = 8;
const MAX_HEADER_BYTES: usize = 8 << 20;

/// A tensor as the header describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredTensor {
    /// What the elements are.
    pub dtype: Dtype,
    /// Row-major.
    pub shape: Vec<usize>,
    /// Where its bytes lie in the file.
    pub bytes: Range<usize>,
}

/// A checked header: every range lies in the file, none overlap, all of the file is covered.
#[derive(Debug)]
pub(crate) struct Header {
    /// By name.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// The free texts under `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of the safetensors file whose content is `file`.
pub(crate) fn parse(path: &Path, file: &[u8]) -> Result<Header> {
    let json = json_of(path, file)?;
    let raw: RawHeader = serde_json::from_slice(json).map_err(|error| {
        format(path, format!("the safetensors header is not valid: {}", json_error(&error)))
    })?;
    let data_start = LENGTH_BYTES + json.len();
    let tensors = place(path, raw.tensors, data_start, file.len())?;
    Ok(Header { tensors, metadata: raw.metadata })
}

/// The header's bytes.
fn json_of<'f>(path: &Path, file: &'f [u8]) -> Result<&'f [u8]> {
    if let Some(other) = other_format(file) {
        return Err(format(path, format!("expected a safetensors file, found {other}")));
    }
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        let found = file.len();
        let reason =
            format!("expected a safetensors file of at least 8 bytes, found {found} bytes");
        return Err(format(path, reason));
    };
    let length = u64::from_le_bytes(*length);
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_HEADER_BYTES)
        .ok_or_else(|| format(path, too_long(length, rest)))?;
    let Some(json) = rest.get(..length) else {
        let (expected, found) = (LENGTH_BYTES + length, file.len());
        let reason =
            format!("cut short in its header: expected at least {expected} bytes, found {found}");
        return Err(format(path, reason));
    };
    if json.first() != Some(&b'{') {
        let reason =
            "expected a safetensors header that starts with `{`, found another byte or none";
        return Err(format(path, reason.into()));
    }
    Ok(json)
}

/// Why a file with such a length at its start is refused: in any other format these bytes are not a
/// length at all.
fn too_long(length: u64, rest: &[u8]) -> String {
    let limit = MAX_HEADER_BYTES;
    match rest.first() {
        Some(b'{') => {
            format!("expected a safetensors header of at most {limit} bytes, found {length}")
        }
        _ => "expected a safetensors file, found another format".into(),
    }
}

/// Files often taken for safetensors, told by their first bytes.
fn other_format(file: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 5] = [
        (b"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"),
        (b"PK\x03\x04", "a PyTorch file (.ckpt, .pt, .bin): convert it to safetensors"),
        (b"GGUF", "a GGUF file: use the safetensors version of the model"),
        (b"\x89PNG", "a PNG picture"),
        (b"<!DOCTYPE html", "a web page: the download did not fetch the file"),
    ];
    kinds.into_iter().find(|(start, _)| file.starts_with(start)).map(|(_, kind)| kind)
}

/// Turns offsets into ranges of the file; refuses gaps, overlaps, wrong sizes and a wrong end.
fn place(
    path: &Path,
    raw: Vec<(String, RawTensor)>,
    data_start: usize,
    file_len: usize,
) -> Result<BTreeMap<String, StoredTensor>> {
    let mut raw = raw;
    raw.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut end_before = 0;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in raw {
        let weight = |expected: String, actual: String| Error::Weight {
            file: path.into(),
            tensor: name.clone(),
            expected,
            actual,
        };
        let (begin, end) = tensor.data_offsets;
        if begin != end_before || end < begin {
            let expected =
                format!("data_offsets that begin at {end_before}, where the tensor before ends");
            return Err(weight(expected, format!("[{begin}, {end}]")));
        }
        let dtype = dtype_named(&tensor.dtype).ok_or_else(|| {
            weight("a dtype of the safetensors format".into(), quoted(&tensor.dtype))
        })?;
        let size = byte_size(dtype, &tensor.shape).ok_or_else(|| {
            weight("a size that fits in memory".into(), format!("{:?}", tensor.shape))
        })?;
        if size != end - begin {
            let expected = format!("{size} bytes for {} {:?}", tensor.dtype, tensor.shape);
            return Err(weight(expected, format!("data_offsets over {} bytes", end - begin)));
        }
        let overflow = || weight("offsets inside the file".into(), format!("[{begin}, {end}]"));
        let bytes = data_start + begin..data_start.checked_add(end).ok_or_else(overflow)?;
        end_before = end;
        tensors.insert(name, StoredTensor { dtype, shape: tensor.shape, bytes });
    }
    let expected = data_start + end_before;
    if expected > file_len {
        return Err(format(
            path,
            format!("cut short: expected {expected} bytes, found {file_len}"),
        ));
    }
    if expected < file_len {
        let reason =
            format!("expected {expected} bytes, found {file_len}: some belong to no tensor");
        return Err(format(path, reason));
    }
    Ok(tensors)
}

fn dtype_named(name: &str) -> Option<Dtype> {
    serde_json::from_value(serde_json::Value::from(name)).ok()
}

/// `None` on overflow or if the last byte would be part-filled.
fn byte_size(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

fn format(path: &Path, reason: String) -> Error {
    Error::Format { path: path.into(), reason }
}
