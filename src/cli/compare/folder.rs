//! The folder of a comparison: what it holds, and going on with it.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

use crate::cli::args::CompareOutputArgs;
use crate::cli::compare::matrix;
use crate::cli::compare::outputs;
use crate::cli::output;
use crate::cli::stream;
use crate::device::Tensor;
use crate::error::Error;
use crate::files;
use crate::model::source::sha256;
use crate::pipeline::RgbImage;
use crate::pipeline::image;
use crate::pipeline::latents;
use crate::report::check::check;
use crate::report::quality::Exact;
use crate::report::results::Compared;
use crate::report::results::Picture;
use crate::report::results::Results;
use crate::report::results::SCHEMA_VERSION;
use crate::report::tables;

const RESULTS: &str = "results.json";
/// What is made of a comparison beside pictures, documents and grids.
const OUTPUTS: [&str; 11] = [
    "charts/quality.png",
    "charts/quality.svg",
    "charts/speedup.png",
    "charts/speedup.svg",
    "charts/time.png",
    "charts/time.svg",
    "grids/index.png",
    outputs::REPORT,
    "results.csv",
    "summary.md",
    RESULTS,
];

/// Where results go.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// What an earlier run left, to go on with.
    earlier: Option<Results>,
    /// Whether what is there is to be replaced.
    replace: bool,
}

impl Folder {
    /// Checks that the folder can be written, and that nothing is lost there.
    ///
    /// # Errors
    /// [`Error::Request`] for a comparison that is there and neither gone on with nor replaced, or that is
    /// to be gone on with and is not there; [`Error::Write`].
    pub(super) fn open(args: &CompareOutputArgs) -> Result<Self> {
        let path = args.out.clone();
        let results = path.join(RESULTS);
        let refuse = |reason| Err(Error::Request { field: "out", reason }.into());
        if path.is_file() {
            return refuse(format!("expected a folder, found the file `{}`", path.display()));
        }
        output::check_folder(&path)?;
        if !args.resume {
            if results.exists() && !args.overwrite {
                let found = path.display();
                let advice = "take --resume, --overwrite or another folder";
                return refuse(format!("`{found}` holds a comparison; {advice}"));
            }
            return Ok(Self { path, earlier: None, replace: args.overwrite });
        }
        if !results.exists() {
            let found = path.display();
            return refuse(format!("expected a comparison to go on with, found none in `{found}`"));
        }
        let earlier = parse(&files::read_text(&results)?, &results)?;
        Ok(Self { path, earlier: Some(earlier), replace: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in the folder.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        output::make_folder(output::folder_of(&path))?;
        files::write_atomic(&path, content)?;
        Ok(path)
    }

    /// Writes every document anew.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn keep(&self, results: &Results) -> Result<()> {
        let document = serde_json::to_string_pretty(results)? + "\n";
        self.write(RESULTS, document.as_bytes())?;
        self.write("results.csv", tables::csv(results).as_bytes())?;
        self.write("summary.md", tables::summary(results).as_bytes())?;
        Ok(())
    }

    /// Removes the comparison that is there and was to be replaced; other files stay.
    pub(super) fn clear(&self) {
        let results = self.path.join(RESULTS);
        if !self.replace || !results.exists() {
            return;
        }
        let text = files::read_text(&results).map_err(anyhow::Error::from);
        if let Ok(old) = text.and_then(|text| parse(&text, &results)) {
            for compared in &old.configurations {
                for Picture { file, .. } in &compared.pictures {
                    files::remove_file(&self.path.join(file));
                    files::remove_file(&self.path.join(matrix::latents(file)));
                }
                for (index, prompt) in old.setup.prompts.iter().enumerate() {
                    let grid = matrix::grid(&compared.mode, index, prompt);
                    files::remove_file(&self.path.join(grid));
                }
            }
        }
        OUTPUTS.iter().for_each(|name| files::remove_file(&self.path.join(name)));
    }

    /// Whether a file is the one that was written.
    fn holds(&self, file: &str, digest: &str) -> bool {
        files::map(&self.path.join(file)).is_ok_and(|bytes| sha256(&bytes) == digest)
    }

    /// Takes over what an earlier run with the same setup left.
    ///
    /// # Errors
    /// [`Error::Request`] that names the settings that differ.
    pub(super) fn resume(&self, results: &mut Results) -> Result<()> {
        let Some(earlier) = &self.earlier else { return Ok(()) };
        let [now, then] = [&results.setup, &earlier.setup].map(serde_json::to_value);
        let (now, then) = (now?, then?);
        let mut differing = differences(&now, &then);
        if earlier.reference != results.reference {
            let [now, then] = [&results.reference, &earlier.reference];
            differing.push(format!("reference ({now} instead of {then})"));
        }
        if !differing.is_empty() {
            let found = differing.join(", ");
            let reason =
                format!("expected the settings of the comparison there, found other {found}");
            return Err(Error::Request { field: "resume", reason }.into());
        }
        for compared in &mut results.configurations {
            let kept = earlier.configurations.iter().find(|kept| kept.name == compared.name);
            if let Some(kept) = kept {
                compared.pictures = kept.pictures.clone();
                compared.peak_memory_bytes = kept.peak_memory_bytes;
                compared.plan.clone_from(&kept.plan);
            }
        }
        // What is in the folder and is not asked for now stays in the document.
        let known =
            |name: &str| results.configurations.iter().any(|compared| compared.name == name);
        let others: Vec<Compared> =
            earlier.configurations.iter().filter(|kept| !known(&kept.name)).cloned().collect();
        results.configurations.extend(others);
        for compared in &mut results.configurations {
            compared.pictures.retain(|picture| self.holds(&picture.file, &picture.sha256));
        }
        if earlier.version != results.version {
            let [now, then] = [&results.version, &earlier.version];
            stream::note(&format!("the pictures there are of flux-rt {then}, new ones of {now}"));
        }
        results.notes.clone_from(&earlier.notes);
        results.floors.clone_from(&earlier.floors);
        results.average();
        Ok(())
    }

    /// The reference's pictures that are there with their latents, by prompt.
    pub(super) fn load_exact(&self, reference: &Compared, exact: &mut [Option<Exact>]) {
        for picture in &reference.pictures {
            let Some(digest) = &picture.latents_sha256 else { continue };
            let file = matrix::latents(&picture.file);
            if !self.holds(&file, digest) {
                continue;
            }
            let latents = latents::read(&self.path.join(file)).ok();
            let latents = latents.and_then(|stored| stored.packed.into_iter().next());
            if let (Some(slot), Some(latents)) = (exact.get_mut(picture.prompt), latents) {
                *slot = self.picture(picture).map(|image| Exact { image, latents });
            }
        }
    }

    /// Keeps the final latents of a picture of the reference; gives the digest of their file.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Read`].
    pub(super) fn keep_latents(&self, picture: &str, latents: &Tensor<f32, 2>) -> Result<String> {
        let path = self.path.join(matrix::latents(picture));
        output::make_folder(output::folder_of(&path))?;
        latents::write(&path, std::slice::from_ref(latents))?;
        Ok(sha256(&files::map(&path)?))
    }

    /// A picture as it lies in the folder; none if it is missing or damaged.
    pub(super) fn picture(&self, picture: &Picture) -> Option<RgbImage> {
        let path = self.path.join(&picture.file);
        let bytes = files::map(&path).ok()?;
        image::decode_png(&bytes, &path).ok().map(|(image, _)| image)
    }
}

fn parse(text: &str, path: &Path) -> Result<Results> {
    let fail = |reason| Error::Format { path: path.to_owned(), reason };
    let document: Value = serde_json::from_str(text)
        .map_err(|error| fail(format!("expected the results of a comparison: {error}")))?;
    let version = document.get("schema_version").and_then(Value::as_u64);
    if version != Some(u64::from(SCHEMA_VERSION)) {
        let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        return Err(fail(format!("expected schema_version {SCHEMA_VERSION}, found {found}")).into());
    }
    let results: Results = serde_json::from_value(document)
        .map_err(|error| fail(format!("expected the results of a comparison: {error}")))?;
    // A name in a document is no reason to open a file.
    for Compared { mode, cache, pictures, .. } in &results.configurations {
        for Picture { prompt, file, .. } in pictures {
            let text = results.setup.prompts.get(*prompt).map(String::as_str);
            let expected = text.map(|text| matrix::picture(mode, cache, *prompt, text));
            if expected.as_ref() != Some(file) {
                let expected = expected.unwrap_or_else(|| "no picture of that prompt".into());
                return Err(fail(format!("expected {expected}, found {file}")).into());
            }
        }
    }
    check(&results).map_err(fail)?;
    Ok(results)
}

/// The fields that two setups have different values in.
fn differences(now: &Value, then: &Value) -> Vec<String> {
    let (Value::Object(now), Value::Object(then)) = (now, then) else { return Vec::new() };
    let names: std::collections::BTreeSet<&String> = now.keys().chain(then.keys()).collect();
    let different = names.into_iter().filter(|&name| now.get(name) != then.get(name));
    let words = |name: &String| match (now.get(name), then.get(name)) {
        (Some(now), Some(then)) if !now.is_object() && !now.is_array() => {
            format!("{name} ({now} instead of {then})")
        }
        _ => name.clone(),
    };
    different.map(words).collect()
}
