//! A JSON object whose fields are checked one by one; errors name file and field.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;

use crate::error::Error;
use crate::error::Result;
use crate::error::json_error;
use crate::error::quoted;
use crate::files::File;

/// The longest config that is read: as JSON values it may take 60 times as much memory.
const MOST_BYTES: usize = 256 << 10;

/// A JSON object and the file it is from.
#[derive(Debug)]
pub(crate) struct Fields {
    path: PathBuf,
    object: Map<String, Value>,
}

impl Fields {
    /// Reads a file that holds one JSON object.
    pub(crate) fn read(file: &File) -> Result<Self> {
        let (path, text) = (file.path(), file.text_up_to(MOST_BYTES)?);
        let object = serde_json::from_str(&text).map_err(|error| Error::Format {
            path: path.into(),
            reason: format!("expected a JSON object: {}", json_error(&error)),
        })?;
        Ok(Self { path: path.into(), object })
    }

    /// A field; absent and null are the same.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// Fails with what the field holds.
    pub(crate) fn refuse<T>(&self, field: &str, expected: impl Display) -> Result<T> {
        let actual = self.get(field).map_or("nothing".into(), |found| quoted(&found.to_string()));
        Err(self.error(field, expected, actual))
    }

    pub(super) fn error(&self, field: &str, expected: impl Display, actual: String) -> Error {
        let (path, field, expected) = (self.path.clone(), field.into(), expected.to_string());
        Error::Config { path, field, expected, actual }
    }

    /// Every one of `fields` must be there and lie in `range`.
    pub(super) fn sizes(&self, fields: &[&str], range: RangeInclusive<usize>) -> Result<()> {
        for field in fields {
            let value =
                self.get(field).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
            if !value.is_some_and(|value| range.contains(&value)) {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                return self.refuse(field, expected);
            }
        }
        Ok(())
    }

    /// Every one of `fields` must be there and be a number of at most `most` and at least its negative.
    pub(super) fn numbers(&self, fields: &[&str], most: f64) -> Result<()> {
        let expected = format!("a number from -{most} to {most}");
        self.numbers_that(|value| value.abs() <= most, &expected, fields)
    }

    /// Every one of `fields` must be there and be a number from `least` to `most` once it is an f32: so small
    /// that it becomes 0 there it would be divided by.
    pub(super) fn positive(&self, fields: &[&str], [least, most]: [f32; 2]) -> Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "what the narrowed value is, is asked")]
        let fits = |value: f64| (least..=most).contains(&(value as f32));
        self.numbers_that(fits, &format!("a number from {least:e} to {most}"), fields)
    }

    fn numbers_that(
        &self,
        fits: impl Fn(f64) -> bool,
        expected: &str,
        fields: &[&str],
    ) -> Result<()> {
        for field in fields {
            let value = self.get(field).and_then(Value::as_f64);
            if !value.is_some_and(&fits) {
                return self.refuse(field, expected);
            }
        }
        Ok(())
    }

    /// Where the field is present it must have this value: another would need other maths.
    pub(crate) fn only(&self, field: &str, value: &Value) -> Result<()> {
        match self.get(field) {
            Some(found) if found != value => self.refuse(field, format!("{value}")),
            _ => Ok(()),
        }
    }

    /// The field must be there and have this value.
    pub(crate) fn exactly(&self, field: &str, value: &Value) -> Result<()> {
        if self.get(field) == Some(value) { Ok(()) } else { self.refuse(field, format!("{value}")) }
    }

    /// The fields must be null or absent.
    pub(super) fn absent(&self, fields: &[&str]) -> Result<()> {
        let found = fields.iter().find(|field| self.get(field).is_some());
        found.map_or(Ok(()), |field| self.refuse(field, "null"))
    }

    /// The whole object as a config; call it after the fields' own checks, which say more.
    pub(super) fn parse<C: DeserializeOwned>(&self) -> Result<C> {
        // Null is absent, so that defaults apply to both.
        let object = self.object.iter().filter(|(_, value)| !value.is_null());
        let object = object.map(|(field, value)| (field.clone(), value.clone())).collect();
        serde_json::from_value(Value::Object(object)).map_err(|error| Error::Format {
            path: self.path.clone(),
            reason: format!("not a config of this kind: {}", json_error(&error)),
        })
    }
}
