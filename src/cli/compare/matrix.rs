//! What is compared: every mode with every cache, and what their pictures are called.

use crate::cache::CacheOptions;
use crate::cli::args::CacheName;
use crate::cli::output::slug;
use crate::elastic::Mode;
use crate::error::Error;
use crate::error::Result;
use crate::report::results;
use crate::report::results::NO_CACHE;

/// A mode with a cache.
#[derive(Debug, Clone)]
pub(super) struct Configuration {
    pub(super) mode: Mode,
    /// What `--caches` called it; `none` if that comes to none.
    pub(super) cache: String,
    pub(super) options: Option<CacheOptions>,
}

impl Configuration {
    /// What results call it.
    pub(super) fn name(&self) -> String {
        results::name(&self.mode.to_string(), &self.cache)
    }

    /// The file of a picture in the folder of results.
    pub(super) fn picture(&self, index: usize, prompt: &str) -> String {
        picture(&self.mode.to_string(), &self.cache, index, prompt)
    }
}

/// The file of a picture of a mode and a cache in the folder of results.
pub(super) fn picture(mode: &str, cache: &str, index: usize, prompt: &str) -> String {
    let [mode, cache, prompt] = [mode, cache, prompt].map(slug);
    format!("pictures/{mode}-{cache}-{:02}-{prompt}.png", index + 1)
}

/// The file of the final latents of a picture, by the picture's file.
pub(super) fn latents(picture: &str) -> String {
    let name = picture.strip_prefix("pictures/").and_then(|name| name.strip_suffix(".png"));
    format!("latents/{}.safetensors", name.unwrap_or("picture"))
}

/// The file of the grid of a mode and a prompt.
pub(super) fn grid(mode: &str, index: usize, prompt: &str) -> String {
    let [mode, prompt] = [mode, prompt].map(slug);
    format!("grids/{mode}-{:02}-{prompt}.png", index + 1)
}

/// Every mode with every cache, modes outermost.
///
/// # Errors
/// [`Error::Request`] for one that is named twice; those of reading a cache's file.
pub(super) fn configurations(modes: &[Mode], caches: &[CacheName]) -> Result<Vec<Configuration>> {
    let mut all: Vec<Configuration> = Vec::new();
    for mode in modes {
        for cache in caches {
            let (mode, options) = (mode.clone(), cache.options()?);
            // A file may say that there is none, too.
            let cache = options.as_ref().map_or_else(|| NO_CACHE.into(), |_| cache.to_string());
            let new = Configuration { mode, cache, options };
            // Their files would have the same names.
            if all.iter().any(|known| known.picture(0, "") == new.picture(0, "")) {
                let same_mode = |known: &&Configuration| known.mode == new.mode;
                let field = match all.iter().filter(same_mode).count() == caches.len() {
                    true => "modes",
                    false => "caches",
                };
                let reason = format!("expected each once, found {} again", new.name());
                return Err(Error::Request { field, reason });
            }
            all.push(new);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Preset;

    #[test]
    fn modes_are_outermost_and_once() {
        let caches = [Preset::None, Preset::Aggressive].map(CacheName::Preset);
        let all = configurations(&[Mode::Xl, Mode::S], &caches).unwrap();
        let names: Vec<String> = all.iter().map(Configuration::name).collect();
        assert_eq!(names, ["XL, none", "XL, aggressive", "S, none", "S, aggressive"]);
        assert!(all[0].options.is_none() && all[1].options.is_some());
        assert_eq!(all[3].picture(1, "A red apple"), "pictures/s-aggressive-02-a-red-apple.png");
        assert!(configurations(&[Mode::S, Mode::S], &caches).is_err());
    }
}
