//! The tensors of one component, or of an all-in-one file, as they are stored: one file or shards.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use crate::error::Error;
use crate::error::Result;
use crate::files::Bytes;
use crate::files::File;
use crate::files::Folder;
use crate::model::weights::header;
use crate::model::weights::header::Header;
use crate::model::weights::header::StoredTensor;
use crate::model::weights::shards::Index;
use crate::model::weights::shards::weight_files;

/// Weight files, mapped, with checked headers.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<Shard>,
    /// By name: which shard, and what its header says.
    tensors: BTreeMap<String, (usize, StoredTensor)>,
}

#[derive(Debug)]
struct Shard {
    file: File,
    bytes: Bytes,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens one file.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Format`] and [`Error::Weight`] for a file that is not sound.
    pub fn open(file: &File) -> Result<Self> {
        Self::of_files(file.path().into(), std::slice::from_ref(file))
    }

    /// Opens the weights in a component's folder (`transformer/`, `vae/`, …).
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; also if there are no weights, or if the index of sharded weights
    /// does not match the shards.
    pub fn open_folder(folder: &Folder) -> Result<Self> {
        let found = weight_files(folder)?;
        let checkpoint = Self::of_files(folder.path().into(), &found.files)?;
        if let Some(index) = found.index {
            checkpoint.check_index(&index)?;
        }
        Ok(checkpoint)
    }

    fn of_files(path: PathBuf, files: &[File]) -> Result<Self> {
        let mut checkpoint = Self { path, shards: Vec::new(), tensors: BTreeMap::new() };
        for file in files {
            let bytes = file.bytes()?;
            let Header { tensors, metadata } = header::parse(file.path(), &bytes)?;
            bytes.expect_whole(file.path())?;
            let number = checkpoint.shards.len();
            checkpoint.shards.push(Shard { file: file.clone(), bytes, metadata });
            for (name, tensor) in tensors {
                if let Some((other, _)) = checkpoint.tensors.insert(name.clone(), (number, tensor))
                {
                    let actual =
                        format!("a second one in {}", checkpoint.shards[other].file.name());
                    return Err(checkpoint.error(&name, "one tensor of that name", actual));
                }
            }
        }
        Ok(checkpoint)
    }

    /// Every tensor must lie in the shard that the index names, and the index must name every one.
    fn check_index(&self, Index { path, weight_map }: &Index) -> Result<()> {
        let error = |tensor: &str, expected: String, actual: String| {
            Err(Error::Weight { file: path.clone(), tensor: tensor.into(), expected, actual })
        };
        for (name, shard) in weight_map {
            let expected = format!("to be in {shard} as the index says");
            match self.file_of(name).map(File::name) {
                None => return error(name, expected, "in no shard".into()),
                Some(actual) if actual != *shard => {
                    return error(name, expected, format!("in {actual}"));
                }
                Some(_) => {}
            }
        }
        match self.tensors.keys().find(|name| !weight_map.contains_key(*name)) {
            Some(name) => {
                let shard = self.file_of(name).map(File::name).unwrap_or_default();
                error(name, "a line in the index".into(), format!("none, but it is in {shard}"))
            }
            None => Ok(()),
        }
    }

    /// Fails if there is a tensor that `is_known` does not know.
    pub(crate) fn expect_only(&self, is_known: impl Fn(&str) -> bool) -> Result<()> {
        match self.names().find(|name| !is_known(name)) {
            Some(name) => {
                let found = self.stored(name).map(|tensor| format!("{:?}", tensor.shape));
                let expected = "no such tensor in a file of this kind, for this transformer";
                Err(self.error(name, expected, found.unwrap_or_default()))
            }
            None => Ok(()),
        }
    }

    /// The file or folder that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors as stored, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether a tensor of that name is stored.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// What the header says about a tensor.
    pub(crate) fn stored(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name).map(|(_, tensor)| tensor)
    }

    /// A tensor's bytes.
    pub(crate) fn bytes_of(&self, name: &str) -> Option<&[u8]> {
        let (shard, tensor) = self.tensors.get(name)?;
        self.shards[*shard].bytes.get(tensor.bytes.clone())
    }

    /// The bytes of the whole file that holds a tensor: its range counts from their start.
    pub(crate) fn shard_of(&self, name: &str) -> Option<&[u8]> {
        self.tensors.get(name).map(|(shard, _)| &*self.shards[*shard].bytes)
    }

    /// Fails if a file became shorter since it was opened: asked before and after bytes are read.
    pub(crate) fn expect_whole(&self) -> Result<()> {
        self.shards.iter().try_for_each(|shard| shard.bytes.expect_whole(shard.file.path()))
    }

    /// All texts of one key in the headers' `__metadata__`, with the files they are in.
    pub(crate) fn metadata(&self, key: &str) -> impl Iterator<Item = (&Path, &str)> {
        let texts =
            self.shards.iter().map(move |shard| (shard.file.path(), shard.metadata.get(key)));
        texts.filter_map(|(path, text)| Some((path, text?.as_str())))
    }

    /// An error about a tensor, naming the file that holds it, or all if none of several does.
    pub(crate) fn error(
        &self,
        tensor: &str,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) -> Error {
        let only = match self.shards.as_slice() {
            [only] => Some(&only.file),
            _ => None,
        };
        let file = self.file_of(tensor).or(only).map_or(self.path.as_path(), File::path);
        Error::Weight {
            file: file.into(),
            tensor: tensor.into(),
            expected: expected.into(),
            actual: actual.into(),
        }
    }

    fn file_of(&self, name: &str) -> Option<&File> {
        self.tensors.get(name).map(|(shard, _)| &self.shards[*shard].file)
    }
}
