//! The folder of a comparison: what it holds, and going on with it.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

use crate::cli::args::CompareOutputArgs;
use crate::cli::output;
use crate::device::Tensor;
use crate::error::Error;
use crate::files;
use crate::pipeline::image;
use crate::pipeline::latents;
use crate::report::quality::Exact;
use crate::report::results::Compared;
use crate::report::results::Results;
use crate::report::results::SCHEMA_VERSION;
use crate::report::tables;

const RESULTS: &str = "results.json";
const LATENTS: &str = "reference-latents.safetensors";

/// Where results go.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// What an earlier run left, to go on with.
    earlier: Option<Results>,
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
            return Ok(Self { path, earlier: None });
        }
        if !results.exists() {
            let found = path.display();
            return refuse(format!("expected a comparison to go on with, found none in `{found}`"));
        }
        let earlier = parse(&files::read_text(&results)?, &results)?;
        Ok(Self { path, earlier: Some(earlier) })
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
                let there = |file: &str| self.path.join(file).is_file();
                compared.pictures = kept.pictures.clone();
                compared.pictures.retain(|picture| there(&picture.file));
                compared.peak_memory_bytes = kept.peak_memory_bytes;
            }
        }
        // What is in the folder and is not asked for now stays in the document.
        let known =
            |name: &str| results.configurations.iter().any(|compared| compared.name == name);
        let others: Vec<Compared> =
            earlier.configurations.iter().filter(|kept| !known(&kept.name)).cloned().collect();
        results.configurations.extend(others);
        results.notes.clone_from(&earlier.notes);
        results.average();
        Ok(())
    }

    /// The reference's pictures that are there, with their latents.
    pub(super) fn load_exact(&self, reference: &Compared, exact: &mut [Option<Exact>]) {
        let Ok(stored) = latents::read(&self.path.join(LATENTS)) else { return };
        for (prompt, latents) in stored.packed.into_iter().enumerate() {
            let picture = reference.pictures.iter().find(|picture| picture.prompt == prompt);
            let (Some(picture), Some(slot)) = (picture, exact.get_mut(prompt)) else { continue };
            let path = self.path.join(&picture.file);
            let decoded = files::map(&path).and_then(|bytes| image::decode_png(&bytes, &path));
            *slot = decoded.ok().map(|(image, _)| Exact { image, latents });
        }
    }

    /// Keeps the reference's latents, one a prompt, when all are there.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn keep_latents(&self, exact: &[Option<Exact>]) -> Result<()> {
        let all = exact.iter().map(|exact| {
            let latents = &exact.as_ref()?.latents;
            Some(Tensor::from_host(latents.shape(), latents.host().to_vec()))
        });
        let Some(all) = all.collect::<Option<Vec<_>>>() else { return Ok(()) };
        Ok(latents::write(&self.path.join(LATENTS), &all)?)
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
    let results = serde_json::from_value(document)
        .map_err(|error| fail(format!("expected the results of a comparison: {error}")))?;
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
