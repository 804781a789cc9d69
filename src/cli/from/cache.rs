//! The cache of a picture that is repeated, and what flags change of it.

use anyhow::Result;

use crate::cache::CacheOptions;
use crate::cache::Preset;
use crate::cli::args::CacheArgs;
use crate::cli::from::Repeat;
use crate::cli::from::instead;
use crate::cli::from::refuse;
use crate::cli::stream::quoted;
#[cfg(doc)]
use crate::error::Error;

impl Repeat {
    /// The picture's cache, or what the flags make of it.
    ///
    /// # Errors
    /// [`Error::Request`] for options that are none, or are missing; those of the flags.
    pub(in crate::cli) fn cache(
        &mut self,
        flags: Option<CacheArgs>,
    ) -> Result<Option<CacheOptions>> {
        let said = self.said_cache();
        if self.given.written("cache").is_some() {
            let options = flags.map_or(Ok(None), CacheArgs::options)?;
            let said = said.map(|said| said.options).unwrap_or_default();
            self.note_cache(options.as_ref(), said.as_ref());
            return Ok(options);
        }
        let Said { options: said, unsaid } = said?;
        unsaid.into_iter().for_each(|note| self.note(note));
        let options = match flags {
            Some(flags) => flags.changed(said.clone())?,
            None => said.clone(),
        };
        self.note_cache(options.as_ref(), said.as_ref());
        Ok(options)
    }

    fn note_cache(&mut self, options: Option<&CacheOptions>, said: Option<&CacheOptions>) {
        let Some(name) = self.receipt.cache.clone().or_else(|| Some(said?.name())) else { return };
        if options != said {
            let note = instead(&self.given.all_written("cache"), "cache", &name);
            self.override_with(&["cache", "cache_record"], note);
        }
    }

    fn said_cache(&self) -> Result<Said> {
        if let Some(record) = &self.receipt.cache_record {
            let missing = record.missing().into_iter();
            let note = |option| {
                format!("the picture does not say its cache's {option}; taking the default")
            };
            let unsaid = missing.map(note).collect();
            return Ok(Said { options: Some(record.options()?), unsaid });
        }
        let Some(name) = &self.receipt.cache else {
            let unsaid = vec!["the picture does not say its cache; taking none".to_owned()];
            return Ok(Said { options: None, unsaid });
        };
        let Ok(preset) = name.parse::<Preset>() else {
            return refuse(
                "cache",
                format!(
                    "the picture was made with the cache {} and does not hold its options; give them with \
                     --cache",
                    quoted(name)
                ),
            );
        };
        let options = preset.options();
        let unsaid = options.is_some().then(|| {
            format!("the picture does not say its cache's options; taking those of {preset}")
        });
        Ok(Said { options, unsaid: unsaid.into_iter().collect() })
    }
}

/// What a picture says of its cache.
struct Said {
    /// None for no cache.
    options: Option<CacheOptions>,
    /// What it does not say, for the user.
    unsaid: Vec<String>,
}
