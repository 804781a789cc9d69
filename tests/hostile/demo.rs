//! The demo model in a folder where one file at a time is another: links to the files of the repository, and
//! a file in the place of one.

use std::path::Path;
use std::path::PathBuf;

use flux_rt::Result;
use flux_rt::elastic::Mode;
use flux_rt::files;
use flux_rt::pipeline::DeviceChoice;
use flux_rt::pipeline::Engine;
use flux_rt::pipeline::Request;
use flux_rt::pipeline::RgbImage;

use crate::data;

pub(crate) struct Demo {
    folder: tempfile::TempDir,
}

fn original() -> PathBuf {
    data::path("models/demo")
}

impl Demo {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        link_all(&original().canonicalize().unwrap(), folder.path());
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The content that the file has in the repository.
    pub(crate) fn original(file: &str) -> files::Bytes {
        files::map(&original().join(file)).unwrap()
    }

    /// From now on `file` holds `parts`, one after the other.
    pub(crate) fn put(&self, file: &str, parts: &[&[u8]]) {
        use std::io::Write as _;
        let path = self.path().join(file);
        std::fs::remove_file(&path).unwrap();
        let mut to = std::fs::OpenOptions::new().write(true).create_new(true).open(path).unwrap();
        parts.iter().for_each(|part| to.write_all(part).unwrap());
    }

    /// From now on `file` is the repository's again.
    pub(crate) fn restore(&self, file: &str) {
        let path = self.path().join(file);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(original().join(file).canonicalize().unwrap(), path).unwrap();
    }

    /// Reads and checks the model, and loads it.
    pub(crate) fn load(&self, mode: Mode) -> Result<Engine> {
        let model = self.path().to_string_lossy();
        Engine::builder().model(model).device(DeviceChoice::Cpu).mode(mode).build()
    }
}

fn link_all(from: &Path, to: &Path) {
    for name in files::list(from).unwrap() {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            std::fs::create_dir(&target).unwrap();
            link_all(&source, &target);
        } else {
            std::os::unix::fs::symlink(source, target).unwrap();
        }
    }
}

/// A picture that all of the model has a part in.
pub(crate) fn draw(engine: &mut Engine) -> Result<RgbImage> {
    let request = Request {
        prompt: Some("a red apple, 3d style".to_owned()),
        seed: 7,
        width: Some(32),
        height: Some(16),
        steps: Some(2),
        ..Request::default()
    };
    engine.generate(&request).map(|made| made.image)
}
