//! SHA-256 of the weight files, for the metadata of pictures and for plans.

use std::path::Path;

use rayon::prelude::*;
use sha2::Digest;
use sha2::Sha256;

use crate::error::Result;
use crate::files::File;
use crate::model::source::ModelFiles;
use crate::model::weights::naming::Component;

/// What a weight file holds, for records.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightsDigest {
    /// The network's folder name and the file's name: `vae/diffusion_pytorch_model.safetensors`.
    pub file: String,
    /// SHA-256, 64 hex digits.
    pub sha256: String,
}

impl ModelFiles {
    /// The SHA-256 of every weight file, computed now, one file a core; files of the Hugging Face cache
    /// are named by theirs, which is taken instead.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn digests(&self) -> Result<Vec<WeightsDigest>> {
        self.digests_of(&Component::ALL)
    }

    /// What a plan knows the transformer by: the SHA-256 of its file, of several files that of lines
    /// `name digest` in the order of the names. None without files.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn transformer_digest(&self) -> Result<Option<String>> {
        let mut files = self.digests_of(&[Component::Transformer])?;
        files.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(match files.as_slice() {
            [] => None,
            [one] => Some(one.sha256.clone()),
            several => {
                let line = |file: &WeightsDigest| format!("{} {}\n", file.file, file.sha256);
                Some(hex(&Sha256::digest(several.iter().map(line).collect::<String>())))
            }
        })
    }

    fn digests_of(&self, components: &[Component]) -> Result<Vec<WeightsDigest>> {
        let mut files: Vec<(Component, File)> = Vec::new();
        for &component in components {
            for file in self.component(component).files()? {
                if !files.iter().any(|(_, other)| *other == file) {
                    files.push((component, file));
                }
            }
        }
        let digest = |(component, file): (Component, File)| {
            let sha256 = match blob_digest(file.path()) {
                Some(known) => known,
                None => digest_of(&file)?,
            };
            Ok(WeightsDigest { file: format!("{}/{}", component.folder(), file.name()), sha256 })
        };
        files.into_par_iter().map(digest).collect()
    }
}

/// SHA-256 of bytes, 64 hex digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn digest_of(file: &File) -> Result<String> {
    let bytes = file.bytes()?;
    let digest = sha256(&bytes);
    bytes.expect_whole(file.path())?;
    Ok(digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest in the name of the blob that a file of the Hugging Face cache links to.
fn blob_digest(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    let in_blobs = target.parent()?.file_name()? == "blobs";
    let name = target.file_name()?.to_str()?;
    let is_sha256 = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (in_blobs && is_sha256).then(|| name.to_owned())
}
