//! The step cache around a picture: what it is told before, and its log after.

use crate::cache::CacheLog;
use crate::cache::CacheRecord;
use crate::cache::ListLog;
use crate::cache::ListSchedule;
use crate::error::Error;
use crate::error::Result;
use crate::model::flux::cached::CachedList;
use crate::model::flux::cached::StepAction;
use crate::pipeline::DType;
use crate::pipeline::Defaults;
use crate::pipeline::Generated;
use crate::pipeline::Settings;
use crate::pipeline::session::Session;

/// The cached block lists of a picture; none without a cache.
///
/// # Errors
/// [`crate::Error::Request`] for options that the model or the number of steps does not allow.
pub(super) fn lists(
    settings: &Settings,
    defaults: &Defaults,
    dtype: DType,
) -> Result<Vec<ListSchedule>> {
    match &settings.cache {
        Some(cache) => cache.schedule(defaults.blocks, settings.steps, dtype == DType::Bf16),
        None => Ok(Vec::new()),
    }
}

impl Generated {
    /// Options and decisions of the cache; none without one.
    #[must_use]
    pub fn cache_record(&self) -> Option<CacheRecord> {
        let (options, log) = self.settings.cache.as_ref().zip(self.cache.as_ref())?;
        Some(CacheRecord::new(options, log))
    }
}

/// What each list does, step by step.
pub(super) fn actions(lists: &[ListSchedule], steps: usize) -> Vec<Vec<StepAction>> {
    let step = |step: usize| lists.iter().map(|list| list.actions[step]).collect();
    (0..steps).map(step).collect()
}

/// What the lists decided; waits for the device.
///
/// # Errors
/// [`crate::Error::Cuda`].
pub(super) fn cache_log(
    session: &Session,
    lists: &[ListSchedule],
    step_times: &[[u64; 2]],
) -> Result<Option<CacheLog>> {
    let Some(first) = lists.first() else { return Ok(None) };
    let log = |(schedule, list): (&ListSchedule, &CachedList)| {
        let decided = list.decider.log()?;
        let steps = schedule.known.iter().zip(decided);
        let steps: Option<_> = steps.map(|(known, decided)| known.or(decided)).collect();
        let steps = steps.ok_or_else(|| Error::Shape {
            op: "cache",
            tensor: "log",
            expected: "a verdict of every step".into(),
            actual: "a step without".into(),
        })?;
        Ok(ListLog { name: schedule.name, steps })
    };
    let step_ms = step_times.iter().map(|[begin, end]| end.saturating_sub(*begin) as f64 / 1e6);
    Ok(Some(CacheLog {
        lists: lists.iter().zip(&session.lists).map(log).collect::<Result<_>>()?,
        rounding: first.limits.rounding,
        step_ms: step_ms.collect(),
    }))
}
