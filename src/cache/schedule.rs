//! What the options mean for a model and a number of steps: the block lists, and of each step what is
//! known before it runs.
//!
//! Tests 1 to 3 of the table (spec dualcache 4) depend on the step alone, so the host makes them; the
//! others are [`crate::ops::residual_diff`].

use crate::cache::CacheOptions;
use crate::cache::Layout;
use crate::cache::ListName;
use crate::cache::ListOptions;
use crate::cache::MaskPolicy;
use crate::cache::Reason;
use crate::cache::Verdict;
use crate::error::Error;
use crate::error::Result;
use crate::model::flux::cached::CachedBlocks;
use crate::model::flux::cached::Compared;
use crate::model::flux::cached::StepAction;
use crate::ops::residual_diff::rule::Limits;
use crate::ops::taylor::MAX_ORDER;

/// One block list of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ListSchedule {
    /// Which list.
    pub name: ListName,
    /// Its blocks, and what a hit reads.
    pub blocks: CachedBlocks,
    /// What the device decides by.
    pub limits: Limits,
    /// What each step does.
    pub actions: Vec<StepAction>,
    /// The verdict of each step that the host knows; none where the device decides.
    pub known: Vec<Option<Verdict>>,
    /// What overrules the device at each step.
    pub replay: Vec<Option<bool>>,
}

impl CacheOptions {
    /// Fails for what makes no sense with any model and any number of steps.
    ///
    /// # Errors
    /// [`Error::Request`] naming the option.
    pub fn check(&self) -> Result<()> {
        for options in [&self.double, &self.single] {
            check_values(options)?;
        }
        if self.layout == Layout::Unified && self.double != self.single {
            refuse(
                "cache-layout",
                "expected the same options for both lists with unified, which has one; found \
                 different ones"
                    .into(),
            )?;
        }
        Ok(())
    }

    /// The block lists of a picture of `steps` steps by a model of so many double and single blocks,
    /// in the order in which they run. `bf16` is the pipeline's dtype.
    ///
    /// # Errors
    /// [`Error::Request`] for a value that model or steps do not allow.
    pub fn schedule(
        &self,
        [double, single]: [usize; 2],
        steps: usize,
        bf16: bool,
    ) -> Result<Vec<ListSchedule>> {
        let all = double + single;
        let joint = self.layout == Layout::SplitJoint;
        self.check()?;
        let lists = match self.layout {
            Layout::Unified => vec![(ListName::All, 0..all, &self.double, Compared::Image)],
            Layout::Split | Layout::SplitJoint => vec![
                (ListName::Double, 0..double, &self.double, Compared::Image),
                (
                    ListName::Single,
                    double..all,
                    &self.single,
                    if joint { Compared::Joint } else { Compared::Image },
                ),
            ],
        };
        let list = |(name, blocks, options, compared): (_, std::ops::Range<usize>, _, _)| {
            check_blocks(options, name, blocks.len())?;
            let (known, actions) = known_steps(options, steps)?;
            let blocks = CachedBlocks {
                // Behind the last list only the image is read.
                text_is_read: blocks.end < all || options.bn_blocks > 0,
                blocks,
                first: options.fn_blocks,
                last: options.bn_blocks,
                compared,
                compares: actions.contains(&StepAction::Decide),
                skips: actions
                    .iter()
                    .any(|action| matches!(action, StepAction::Decide | StepAction::Hit)),
                taylor_order: options.taylor_order,
            };
            Ok(ListSchedule {
                name,
                blocks,
                limits: Limits {
                    threshold: options.threshold,
                    max_cached: options.max_cached,
                    max_continuous: options.max_continuous,
                    max_accumulated: options.max_accumulated.filter(|&most| most > 0.0),
                    counting: self.counting,
                    rounding: self.rounding.of_pipeline(bf16),
                },
                replay: replay(options, &actions)?,
                actions,
                known,
            })
        };
        lists.into_iter().map(list).collect()
    }
}

/// Fails if a list of so many blocks has none that can be skipped. (cache-dit runs a list of Fn and Bn
/// alone in full, and reports hits.)
fn check_blocks(options: &ListOptions, name: ListName, blocks: usize) -> Result<()> {
    let ListOptions { fn_blocks, bn_blocks, .. } = *options;
    if fn_blocks.checked_add(bn_blocks).is_none_or(|computed| computed >= blocks) {
        refuse(
            "cache-fn",
            format!(
                "expected fewer than the {blocks} blocks of the list `{name}` with --cache-bn, so \
                 that some can be skipped; found {fn_blocks} + {bn_blocks}"
            ),
        )?;
    }
    Ok(())
}

/// Fails for a value that makes no sense with any model.
fn check_values(options: &ListOptions) -> Result<()> {
    let ListOptions { fn_blocks, threshold, warmup_interval, taylor_order, .. } = *options;
    if fn_blocks == 0 {
        refuse("cache-fn", "expected at least 1 block, whose effect is compared, found 0".into())?;
    }
    if !threshold.is_finite() || threshold < 0.0 {
        refuse("cache-threshold", format!("expected a number from 0 on, found {threshold}"))?;
    }
    if warmup_interval == 0 {
        refuse("cache-warmup-interval", "expected 1 or more, found 0".into())?;
    }
    if taylor_order > MAX_ORDER {
        refuse("cache-taylor-order", format!("expected 0 to {MAX_ORDER}, found {taylor_order}"))?;
    }
    if let Some(most) = options.max_accumulated
        && !(most.is_finite() && most >= 0.0)
    {
        let reason = format!("expected -1 for no limit, or a number from 0 on, found {most}");
        refuse("cache-max-accumulated", reason)?;
    }
    if options.mask_policy == MaskPolicy::Static && options.mask.is_none() {
        refuse("cache-mask-policy", "expected a mask with static, found none".into())?;
    }
    Ok(())
}

/// Tests 1 to 3: what is known of each step, and what it therefore does.
fn known_steps(
    options: &ListOptions,
    steps: usize,
) -> Result<(Vec<Option<Verdict>>, Vec<StepAction>)> {
    let mask = options.mask.as_ref().map(|mask| mask.resolve(steps)).transpose()?;
    let is_static = options.mask_policy == MaskPolicy::Static;
    let mut warmup = options.warmup;
    if let Some(mask) = &mask {
        if is_static && mask.first() == Some(&false) {
            refuse(
                "cache-mask",
                "expected a static mask that starts with 1: at the first step there is nothing to \
                 reuse; found 0"
                    .into(),
            )?;
        }
        warmup = warmup.min(mask.iter().take_while(|&&computed| computed).count());
    }
    let reason = |step: usize| {
        if step < warmup && step.is_multiple_of(options.warmup_interval) {
            return Some(Reason::Warmup);
        }
        match mask.as_ref().map(|mask| mask[step]) {
            Some(true) => Some(Reason::Mask),
            Some(false) if is_static => Some(Reason::StaticHit),
            _ => None,
        }
    };
    let reasons: Vec<Option<Reason>> = (0..steps).map(reason).collect();
    let computed = |reason: &Option<Reason>| reason.is_some_and(|reason| !reason.is_hit());
    let last_hit = reasons.iter().rposition(|reason| !computed(reason));
    let action = |(step, reason): (usize, &Option<Reason>)| match reason {
        None => StepAction::Decide,
        Some(reason) if reason.is_hit() => StepAction::Hit,
        // Only what a hit can read is stored: of the last of several computed steps, or of all for a
        // forecast.
        Some(_) => {
            let read = match options.taylor_order {
                0 => reasons.get(step + 1).is_some_and(|next| !computed(next)),
                _ => last_hit.is_some_and(|last| step < last),
            };
            if read { StepAction::Store } else { StepAction::Compute }
        }
    };
    let actions = reasons.iter().enumerate().map(action).collect();
    let verdict = |reason: Option<Reason>| reason.map(|reason| Verdict { reason, diff: None });
    Ok((reasons.into_iter().map(verdict).collect(), actions))
}

/// What overrules the table: at the steps that it would decide.
fn replay(options: &ListOptions, actions: &[StepAction]) -> Result<Vec<Option<bool>>> {
    let Some(hits) = &options.replay else { return Ok(vec![None; actions.len()]) };
    for &hit in hits {
        let reason = match actions.get(hit) {
            Some(StepAction::Decide) if hit > 0 => continue,
            Some(_) => "which is computed or skipped in any case",
            None => "which is past the last one",
        };
        refuse(
            "cache-replay",
            format!("expected steps that the cache decides, found {hit}, {reason}"),
        )?;
    }
    let decision = |(step, action): (usize, &StepAction)| {
        (*action == StepAction::Decide).then(|| hits.contains(&step))
    };
    Ok(actions.iter().enumerate().map(decision).collect())
}

fn refuse<T>(field: &'static str, reason: String) -> Result<T> {
    Err(Error::Request { field, reason })
}
