//! The cache of the Hugging Face hub, read only: models that some program has downloaded.
//!
//! Layout: `models--ORG--NAME/refs/REVISION` holds a commit, whose files are in
//! `models--ORG--NAME/snapshots/COMMIT/`.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

use crate::error::Error;
use crate::error::Result;
use crate::files;
use crate::model::closest::closest;

/// Looks up an environment variable; tests pass their own.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// The variables of this process.
#[must_use]
pub fn process_env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// `org/name` or `org/name@revision`.
#[derive(Debug, Clone, PartialEq)]
pub struct HubId {
    /// `org/name`.
    pub repo: String,
    /// A branch, tag or commit; `main` if none is named.
    pub revision: String,
}

impl HubId {
    /// Reads an id; `None` if the text cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, name) = repo.split_once('/')?;
        let word = |word: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            !word.is_empty() && !word.starts_with('.') && word.chars().all(allowed)
        };
        let fits = word(org) && word(name) && revision.split('/').all(word);
        fits.then(|| Self { repo: repo.into(), revision: revision.into() })
    }

    /// The command that downloads it.
    #[must_use]
    pub fn download(&self) -> String {
        match self.revision.as_str() {
            "main" => format!("hf download {}", self.repo),
            revision => format!("hf download {} --revision {revision}", self.repo),
        }
    }

    /// The folder of the repository inside a cache.
    fn folder(&self) -> String {
        format!("models--{}", self.repo.replace('/', "--"))
    }
}

/// The caches to look in, first the one that a download would go to.
#[must_use]
pub fn cache_folders(env: Env<'_>) -> Vec<PathBuf> {
    let path = |name: &str, rest: &str| {
        let value = env(name).filter(|value| !value.is_empty());
        value.map(|value| PathBuf::from(value).join(rest))
    };
    let mut folders: Vec<PathBuf> = [
        path("HF_HUB_CACHE", ""),
        path("HF_HOME", "hub"),
        path("XDG_CACHE_HOME", "huggingface/hub"),
        path("HOME", ".cache/huggingface/hub"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut seen = Vec::new();
    folders.retain(|folder| {
        let new = !seen.contains(folder);
        seen.push(folder.clone());
        new
    });
    folders
}

/// The folder with the model's files.
///
/// # Errors
/// [`Error::ModelNotFound`] with the places searched and the download command.
pub fn find(id: &HubId, env: Env<'_>) -> Result<PathBuf> {
    let caches = cache_folders(env);
    let found = caches.iter().find_map(|cache| snapshot(&cache.join(id.folder()), &id.revision));
    found.ok_or_else(|| not_found(id, &caches))
}

/// The files of a revision in a repository's folder.
fn snapshot(repo: &Path, revision: &str) -> Option<PathBuf> {
    let commit = files::read_text(&repo.join("refs").join(revision)).ok();
    let commit = commit.as_deref().map_or(revision, str::trim);
    let plain = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let folder = repo.join("snapshots").join(commit);
    (plain && folder.is_dir()).then_some(folder)
}

fn not_found(id: &HubId, caches: &[PathBuf]) -> Error {
    let places: Vec<String> =
        caches.iter().map(|cache| cache.join(id.folder()).display().to_string()).collect();
    let searched = match places.is_empty() {
        true => "no Hugging Face cache to search: HF_HOME and HOME are not set".into(),
        false => format!("searched {}", places.join(", ")),
    };
    let mut advice = format!("download it with `{}`", id.download());
    let revisions: Vec<String> =
        caches.iter().flat_map(|cache| revisions(&cache.join(id.folder()))).collect();
    if !revisions.is_empty() {
        advice += &format!(", or use a revision that is there: {}", revisions.join(", "));
    } else if let Some(near) = closest(&id.repo, present(caches).iter().map(String::as_str)) {
        advice += &format!("; did you mean `{near}`, which is there?");
    }
    Error::ModelNotFound { model: format!("{}@{}", id.repo, id.revision), searched, advice }
}

/// Names of the revisions in a repository's folder, else their commits.
fn revisions(repo: &Path) -> Vec<String> {
    let refs = files::list(&repo.join("refs")).unwrap_or_default();
    let refs: Vec<String> =
        refs.into_iter().filter(|name| snapshot(repo, name).is_some()).collect();
    if refs.is_empty() { files::list(&repo.join("snapshots")).unwrap_or_default() } else { refs }
}

/// The ids of all models in the caches.
fn present(caches: &[PathBuf]) -> Vec<String> {
    let names = caches.iter().flat_map(|cache| files::list(cache).unwrap_or_default());
    let id = |name: String| Some(name.strip_prefix("models--")?.replacen("--", "/", 1));
    names.filter_map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn repo_in(cache: &Path, name: &str) {
        let repo = cache.join(name);
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::create_dir_all(repo.join("snapshots").join(COMMIT)).unwrap();
        files::write_atomic(&repo.join("refs/main"), COMMIT.as_bytes()).unwrap();
    }

    #[test]
    fn ids_are_told_from_paths() {
        let id = |repo: &str, revision: &str| {
            Some(HubId { repo: repo.into(), revision: revision.into() })
        };
        assert_eq!(HubId::parse("org/FLUX.1-dev"), id("org/FLUX.1-dev", "main"));
        assert_eq!(HubId::parse("org/name@refs/pr/3"), id("org/name", "refs/pr/3"));
        for text in [
            "name",
            "/org/name",
            "org/name/more",
            "./name",
            "org/..",
            "org/name@../x",
            "org/name@",
            "a b/c",
        ] {
            assert_eq!(HubId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_variable_that_is_set_comes_first() {
        let env = |name: &str| match name {
            "HF_HOME" => Some("/hf".into()),
            "XDG_CACHE_HOME" => Some("".into()),
            "HOME" => Some("/home/me".into()),
            _ => None,
        };
        let home = PathBuf::from("/home/me/.cache/huggingface/hub");
        assert_eq!(cache_folders(&env), [PathBuf::from("/hf/hub"), home]);
        let env = |name: &str| (name == "HF_HUB_CACHE").then(|| "/hub".into());
        assert_eq!(cache_folders(&env), [PathBuf::from("/hub")]);
        assert!(cache_folders(&|_| None).is_empty());
    }

    #[test]
    fn branches_and_commits_lead_to_the_snapshot() {
        let temp = tempfile::tempdir().unwrap();
        repo_in(temp.path(), "models--org--name");
        let env = |name: &str| (name == "HF_HUB_CACHE").then(|| temp.path().into());
        for text in ["org/name", "org/name@main", &format!("org/name@{COMMIT}")] {
            let found = find(&HubId::parse(text).unwrap(), &env).unwrap();
            assert!(found.ends_with(format!("models--org--name/snapshots/{COMMIT}")), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_places_and_advice() {
        let temp = tempfile::tempdir().unwrap();
        repo_in(temp.path(), "models--black-forest-labs--FLUX.1-dev");
        let env = |name: &str| (name == "HF_HUB_CACHE").then(|| temp.path().into());
        let message =
            |text: &str| find(&HubId::parse(text).unwrap(), &env).unwrap_err().to_string();
        let typo = message("black-forest-labs/FLUX.1-dve");
        assert!(typo.contains(&temp.path().display().to_string()), "{typo}");
        assert!(typo.contains("hf download black-forest-labs/FLUX.1-dve"), "{typo}");
        assert!(typo.contains("did you mean `black-forest-labs/FLUX.1-dev`"), "{typo}");
        let revision = message("black-forest-labs/FLUX.1-dev@other");
        assert!(revision.contains("--revision other"), "{revision}");
        assert!(revision.contains("a revision that is there: main"), "{revision}");
    }
}
