//! Options as a file, a flag or a picture's metadata give them: some set, the rest from elsewhere.

use serde::Deserialize;
use serde::Serialize;

use crate::cache::CacheOptions;
use crate::cache::Counting;
use crate::cache::Layout;
use crate::cache::ListOptions;
use crate::cache::Mask;
use crate::cache::MaskPolicy;
use crate::cache::RoundingChoice;
use crate::error::Error;
use crate::error::Result;

/// The options of one list that are set. -1 is no limit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of `ListOptions`, under the names of the flags")]
pub struct ListChanges {
    #[serde(rename = "fn", skip_serializing_if = "Option::is_none")]
    pub fn_blocks: Option<usize>,
    #[serde(rename = "bn", skip_serializing_if = "Option::is_none")]
    pub bn_blocks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_interval: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cached: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_continuous: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_accumulated: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_policy: Option<MaskPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taylor_order: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Vec<usize>>,
}

impl ListChanges {
    /// Sets these options in `list`.
    ///
    /// # Errors
    /// [`Error::Request`] for a limit that is neither -1 nor a count.
    pub fn apply(&self, list: &mut ListOptions) -> Result<()> {
        set(&mut list.fn_blocks, self.fn_blocks);
        set(&mut list.bn_blocks, self.bn_blocks);
        set(&mut list.threshold, self.threshold);
        set(&mut list.warmup, self.warmup);
        set(&mut list.warmup_interval, self.warmup_interval);
        let max_cached = self.max_cached.map(|most| limit("cache-max-cached", most));
        set(&mut list.max_cached, max_cached.transpose()?);
        let max_continuous = self.max_continuous.map(|most| limit("cache-max-continuous", most));
        set(&mut list.max_continuous, max_continuous.transpose()?);
        // Exactly -1; any other is looked at with the rest of the options.
        let no_limit = |most: f64| most.total_cmp(&-1.0).is_eq();
        let max_accumulated = self.max_accumulated.map(|most| (!no_limit(most)).then_some(most));
        set(&mut list.max_accumulated, max_accumulated);
        set(&mut list.mask, self.mask.clone().map(Some));
        set(&mut list.mask_policy, self.mask_policy);
        set(&mut list.taylor_order, self.taylor_order);
        set(&mut list.replay, self.replay.clone().map(Some));
        Ok(())
    }
}

impl From<&ListOptions> for ListChanges {
    /// All of them, set.
    fn from(list: &ListOptions) -> Self {
        Self {
            fn_blocks: Some(list.fn_blocks),
            bn_blocks: Some(list.bn_blocks),
            threshold: Some(list.threshold),
            warmup: Some(list.warmup),
            warmup_interval: Some(list.warmup_interval),
            max_cached: Some(list.max_cached.map_or(-1, i64::from)),
            max_continuous: Some(list.max_continuous.map_or(-1, i64::from)),
            max_accumulated: Some(list.max_accumulated.unwrap_or(-1.0)),
            mask: list.mask.clone(),
            mask_policy: Some(list.mask_policy),
            taylor_order: Some(list.taylor_order),
            replay: list.replay.clone(),
        }
    }
}

/// The options that are set: of the whole cache, of both lists, of one.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the fields of `CacheOptions`, and what is meant for both lists")]
pub struct Changes {
    pub layout: Option<Layout>,
    pub counting: Option<Counting>,
    pub rounding: Option<RoundingChoice>,
    pub both: ListChanges,
    pub double: ListChanges,
    pub single: ListChanges,
}

impl Changes {
    /// Sets these options; what is meant for one list beats what is meant for both.
    ///
    /// # Errors
    /// As [`ListChanges::apply`].
    pub fn apply(&self, options: &mut CacheOptions) -> Result<()> {
        set(&mut options.layout, self.layout);
        set(&mut options.counting, self.counting);
        set(&mut options.rounding, self.rounding);
        for (list, own) in
            [(&mut options.double, &self.double), (&mut options.single, &self.single)]
        {
            self.both.apply(list)?;
            own.apply(list)?;
        }
        Ok(())
    }
}

fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

fn limit(field: &'static str, value: i64) -> Result<Option<u32>> {
    match u32::try_from(value) {
        Ok(most) if most < u32::MAX => Ok(Some(most)),
        _ if value == -1 => Ok(None),
        _ => Err(Error::Request {
            field,
            reason: format!("expected -1 for no limit, or a number of steps, found {value}"),
        }),
    }
}
