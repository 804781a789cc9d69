//! JSON objects in which a key may occur only once, and how many of what a header may hold.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::Error as _;
use serde::de::MapAccess;
use serde::de::Visitor;

use crate::error::quoted;

const MAX_TENSORS: usize = 65_536;
const MAX_RANK: usize = 8;
const MAX_NAME_BYTES: usize = 256;
const MAX_TEXTS: usize = 65_536;

#[derive(Deserialize)]
pub(super) struct RawTensor {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data_offsets: (usize, usize),
}

pub(super) struct RawHeader {
    pub tensors: Vec<(String, RawTensor)>,
    pub metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut seen = HashSet::new();
        let mut header = RawHeader { tensors: Vec::new(), metadata: BTreeMap::new() };
        while let Some(name) = map.next_key::<String>()? {
            let printable = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            if !printable || name.is_empty() || name.len() > MAX_NAME_BYTES {
                let expected = format!("names of 1 to {MAX_NAME_BYTES} printable ASCII bytes");
                let found = quoted(&name);
                return Err(A::Error::custom(format!("expected {expected}, found {found:?}")));
            }
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!(
                    "expected unique names, found `{name}` twice"
                )));
            }
            if name == "__metadata__" {
                header.metadata = map.next_value::<UniqueMap>()?.0;
                continue;
            }
            let tensor: RawTensor = map
                .next_value()
                .map_err(|error| A::Error::custom(format!("tensor `{name}`: {error}")))?;
            if tensor.shape.len() > MAX_RANK {
                let rank = tensor.shape.len();
                let reason = format!(
                    "tensor `{name}`: expected at most {MAX_RANK} dimensions, found {rank}"
                );
                return Err(A::Error::custom(reason));
            }
            if header.tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!(
                    "expected at most {MAX_TENSORS} tensors, found more"
                )));
            }
            header.tensors.push((name, tensor));
        }
        Ok(header)
    }
}

/// A JSON object of texts in which no key may occur twice.
pub(crate) struct UniqueMap(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if entries.contains_key(&key) {
                let found = quoted(&key);
                return Err(A::Error::custom(format!(
                    "expected unique keys, found `{found}` twice"
                )));
            }
            if entries.len() == MAX_TEXTS {
                return Err(A::Error::custom(format!(
                    "expected at most {MAX_TEXTS} texts, found more"
                )));
            }
            entries.insert(key, value);
        }
        Ok(entries)
    }
}
