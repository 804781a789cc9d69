//! What of a model stays on a GPU whose memory, or what of it may be used, is small. Arithmetic alone.
//!
//! Given up in this order, and of each no more than necessary: modulation layers wait in host memory,
//! which costs their way over the bus once a picture; T5 in e4m3, where the plan has e4m3 at all; T5's
//! blocks wait in host memory, which costs once a prompt.

use crate::error::Error;
use crate::error::Result;
use crate::model::plan::BlockPlans;
use crate::model::source::ModelConfigs;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::offload::Residency;
use crate::pipeline::memory::KERNELS;
use crate::pipeline::memory::Need;

/// Bytes a millisecond from pinned host memory, for estimates: an H100's bus gives 54 GB/s.
const BYTES_PER_MS: usize = 50_000_000;

/// What is to be loaded.
#[derive(Debug)]
pub(crate) struct Model<'a> {
    pub(crate) configs: &'a ModelConfigs,
    pub(crate) dtype: WeightDtype,
    pub(crate) plans: &'a [BlockPlans],
    /// Whether T5 may be in e4m3: a GPU with such kernels, a plan that has e4m3 elsewhere.
    pub(crate) t5_fp8: bool,
    /// Whether it must be, as in a picture that is repeated.
    pub(crate) t5_must_be_fp8: bool,
}

/// The memory of a GPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// What the program may take in all, if the user says so.
    pub(crate) max_vram: Option<usize>,
    /// What the driver has taken for the program already.
    pub(crate) context: usize,
    /// What is free.
    pub(crate) free: usize,
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fit {
    pub(crate) residency: Residency,
    /// Bytes that wait in host memory: modulation layers, T5's blocks.
    pub(crate) offloaded: [usize; 2],
    /// Bytes of those that are on the GPU while they are used.
    pub(crate) fetched: [usize; 2],
    /// Bytes of the GPU in all.
    needed: usize,
    /// What there was to choose for; none where all of it stays and nobody asked.
    budget: Option<usize>,
    asked: bool,
}

/// Whether a model's T5 has sizes that the kernels for e4m3 take.
pub(crate) fn t5_fits_fp8(configs: &ModelConfigs) -> bool {
    let t5 = &configs.t5;
    [t5.d_model, t5.d_ff, t5.num_heads * t5.d_kv].iter().all(|size| size.is_multiple_of(16))
}

impl Budget {
    /// What the program can take beside what the driver has taken.
    fn available(&self) -> usize {
        let allowed = self.max_vram.map_or(usize::MAX, |most| most.saturating_sub(self.context));
        self.free.min(allowed)
    }

    /// The most that buffers may take, if there is such a limit.
    pub(crate) fn buffers(&self) -> Option<usize> {
        self.max_vram.map(|most| most.saturating_sub(self.context + KERNELS))
    }

    /// The error of what does not fit.
    fn refuse(&self, need: Need) -> Error {
        let limited = self.max_vram.filter(|most| most.saturating_sub(self.context) < self.free);
        let (need, free) = match limited {
            Some(most) => (need.and_reserve(self.context), most),
            None => (need, self.free),
        };
        match (need.check(free), limited) {
            (Err(Error::OutOfMemory { needed, free, parts, advice }), Some(_)) => {
                let gb = needed.div_ceil(100_000_000) as f64 / 10.0;
                let advice = format!("raise --max-vram to {gb:.1}, or {advice}");
                Error::OutOfMemory { needed, free, parts, advice }
            }
            (Err(error), _) => error,
            (Ok(()), _) => unreachable!("what fits is not refused"),
        }
    }
}

impl Model<'_> {
    /// What is given up, least first, in groups of which each takes less memory the further it goes.
    fn choices(&self) -> Vec<Vec<Residency>> {
        let flux = &self.configs.flux;
        let layers = 2 * flux.num_layers + flux.num_single_layers + 1;
        let modulation = |t5_fp8| {
            let choice =
                |modulation_offloaded| Residency { modulation_offloaded, t5_fp8, t5_offloaded: 0 };
            (0..=layers).map(choice).collect()
        };
        let blocks = |t5_offloaded| Residency {
            modulation_offloaded: layers,
            t5_fp8: self.t5_fp8 || self.t5_must_be_fp8,
            t5_offloaded,
        };
        let mut groups = Vec::new();
        groups.extend((!self.t5_must_be_fp8).then(|| modulation(false)));
        groups.extend((self.t5_fp8 || self.t5_must_be_fp8).then(|| modulation(true)));
        groups.push((1..=self.configs.t5.num_layers).map(blocks).collect());
        groups
    }

    /// What a choice means, for a picture.
    fn at(&self, residency: Residency, picture: Need) -> Result<(Fit, Need)> {
        let bytes = self.configs.weight_bytes_at(self.dtype, self.plans, residency)?;
        let weights = bytes.iter().map(|bytes| bytes.resident).sum();
        let [flux, _, _, t5] = bytes;
        let width = self.configs.flux.hidden_size();
        let layer = 6 * width * (width * self.dtype.bytes() + size_of::<f32>());
        // While one is used, the next is on its way.
        let fetched = [
            if residency.modulation_offloaded > 0 { 2 * layer } else { 0 },
            2 * t5.offloaded.checked_div(residency.t5_offloaded).unwrap_or(0),
        ];
        let need = picture.and_fetched(fetched).and_weights(weights);
        let offloaded = [flux.offloaded, t5.offloaded];
        let fit = Fit { residency, offloaded, fetched, ..Fit::default() };
        Ok((fit, need))
    }
}

/// The choice that gives up least.
///
/// # Errors
/// [`Error::OutOfMemory`] where even the last does not fit.
pub(crate) fn fit(model: &Model<'_>, picture: Need, budget: Budget) -> Result<Fit> {
    let fits = |need: &Need| need.check(budget.available()).is_ok();
    let nothing = Residency { t5_fp8: model.t5_must_be_fp8, ..Residency::default() };
    let mut smallest = picture;
    for group in model.choices() {
        let Some(&last) = group.last() else { continue };
        (_, smallest) = model.at(last, picture)?;
        if !fits(&smallest) {
            continue;
        }
        for residency in group {
            let (fit, need) = model.at(residency, picture)?;
            if fits(&need) {
                let least = residency == nothing;
                let all = need.and_reserve(budget.context);
                return Ok(Fit {
                    needed: all.total(),
                    budget: budget.max_vram.or((!least).then_some(budget.free)),
                    asked: budget.max_vram.is_some(),
                    ..fit
                });
            }
        }
    }
    Err(budget.refuse(smallest))
}

impl Fit {
    /// What the user should know: what was chosen for which budget, and what it costs.
    pub(crate) fn note(&self) -> Option<String> {
        let gb = |bytes: usize| bytes as f64 / 1e9;
        let budget = gb(self.budget?);
        let start = match self.asked {
            true => format!("--max-vram {budget}"),
            false => format!("{budget:.1} GB of GPU memory are free"),
        };
        let waits = |what: &str, bytes: usize, each: &str| {
            (bytes > 0).then(|| {
                let ms = bytes.div_ceil(BYTES_PER_MS);
                format!("{:.1} GB of {what} wait in host memory, some {ms} ms a {each}", gb(bytes))
            })
        };
        let [modulation, t5] = self.offloaded;
        let precise = self.residency.t5_fp8;
        let parts = [
            waits("modulation weights", modulation, "picture"),
            precise.then(|| "T5 computes in e4m3, which changes pictures a little".to_owned()),
            waits("T5's weights", t5, "new prompt"),
        ];
        let mut parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            parts.push("all weights stay on the GPU".to_owned());
        }
        let needed = gb(self.needed);
        Some(format!("{start}: {}; {needed:.1} GB at most", parts.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elastic::Mode;
    use crate::elastic::Plan;
    use crate::pipeline::memory::tests::flux_dev;
    use crate::pipeline::memory::tests::picture;

    const GB: usize = 1_000_000_000;
    /// Of an H100, about.
    const CONTEXT: usize = 500_000_000;

    fn choose(mode: &Mode, t5_fp8: bool, tenths: usize) -> Result<Fit> {
        let (configs, plan) = (flux_dev(), Plan::built_in(mode, [19, 38]).unwrap());
        let plans = [plan.blocks];
        let (dtype, max_vram) = (WeightDtype::Bf16, Some(tenths * GB / 10));
        let t5_must_be_fp8 = false;
        let model = Model { configs: &configs, dtype, plans: &plans, t5_fp8, t5_must_be_fp8 };
        let budget = Budget { max_vram, context: CONTEXT, free: 80 * GB };
        fit(&model, picture(1024, false), budget)
    }

    /// What of the weights waits, in hundredths of a GB.
    fn hundredths(fit: &Fit) -> [usize; 2] {
        fit.offloaded.map(|bytes| bytes / 10_000_000)
    }

    #[test]
    fn no_more_is_given_up_than_necessary() {
        let mut before = [0; 3];
        for tenths in (140..=310).rev().step_by(5) {
            let fit = choose(&Mode::S, true, tenths).unwrap();
            let Residency { modulation_offloaded, t5_fp8, t5_offloaded } = fit.residency;
            let given_up = [usize::from(t5_fp8), t5_offloaded, modulation_offloaded];
            assert!(given_up >= before, "{tenths}: {given_up:?} after {before:?}");
            before = given_up;
            assert!(fit.needed <= tenths * GB / 10, "{tenths}: {}", fit.needed);
            // A double block's layer more on the GPU would not fit.
            let tight = fit.needed + 440_000_000 > tenths * GB / 10;
            assert!(tight || fit.residency == Residency::default(), "{tenths}: {fit:?}");
            assert!(t5_offloaded == 0 || modulation_offloaded == 77);
        }
    }

    /// FLUX.1-dev in mode S at 1024 x 1024.
    #[test]
    fn budgets_of_flux_dev() {
        let residency = |tenths| choose(&Mode::S, true, tenths).unwrap().residency;
        assert_eq!(residency(310), Residency::default());
        let part = choose(&Mode::S, true, 270).unwrap();
        assert!(part.residency.modulation_offloaded > 0 && !part.residency.t5_fp8);
        assert_eq!(part.offloaded[1], 0);
        let at_22 = choose(&Mode::S, true, 220).unwrap();
        assert!(at_22.residency.t5_fp8 && at_22.residency.t5_offloaded == 0);
        // At 50 GB/s 60 ms, of 2 s.
        assert!((1..300).contains(&hundredths(&at_22)[0]), "{at_22:?}");
        let at_16 = choose(&Mode::S, true, 160).unwrap();
        assert_eq!((at_16.residency.modulation_offloaded, at_16.residency.t5_fp8), (77, true));
        // All of the modulation, and some of T5's 4.6 GB in e4m3.
        assert_eq!(hundredths(&at_16)[0], 649);
        assert!((1..464).contains(&hundredths(&at_16)[1]), "{at_16:?}");
    }

    /// Without e4m3, on a card of an earlier generation or in a mode without it, bits stay the same.
    #[test]
    fn without_e4m3_blocks_of_t5_wait_instead() {
        let fit = choose(&Mode::Xl, false, 240).unwrap();
        assert_eq!((fit.residency.modulation_offloaded, fit.residency.t5_fp8), (77, false));
        assert!(fit.residency.t5_offloaded > 0);
        assert_eq!(fit.fetched[1], 2 * fit.offloaded[1] / fit.residency.t5_offloaded);
    }

    #[test]
    fn what_does_not_fit_at_all_is_refused() {
        let error = choose(&Mode::S, true, 100).unwrap_err();
        assert_eq!(error.exit_code(), 5);
        let text = error.to_string();
        assert!(text.contains("found 10.00 GB: weights 9.3"), "{text}");
        assert!(text.contains("; raise --max-vram to 1"), "{text}");
        let Error::OutOfMemory { needed, .. } = error else { panic!("{error:?}") };
        let raised = needed.div_ceil(GB / 10);
        assert!(choose(&Mode::S, true, raised).is_ok());
        assert!(choose(&Mode::S, true, raised - 1).is_err());
    }

    #[test]
    fn a_small_gpu_is_a_budget_too() {
        let (configs, plan) = (flux_dev(), Plan::built_in(&Mode::Xl, [19, 38]).unwrap());
        let plans = [plan.blocks];
        let dtype = WeightDtype::Bf16;
        let at_with = |free, t5_must_be_fp8| {
            let t5_fp8 = false;
            let model = Model { configs: &configs, dtype, plans: &plans, t5_fp8, t5_must_be_fp8 };
            let budget = Budget { max_vram: None, context: CONTEXT, free };
            assert_eq!(budget.buffers(), None);
            fit(&model, picture(1024, false), budget)
        };
        let at = |free| at_with(free, false);
        let repeated = at_with(80 * GB, true).unwrap();
        let t5_fp8 = Residency { t5_fp8: true, ..Residency::default() };
        assert_eq!((repeated.residency, repeated.note()), (t5_fp8, None));
        assert!(at_with(22 * GB, true).unwrap().residency.t5_fp8);
        let all = at(80 * GB).unwrap();
        assert_eq!((all.residency, all.note()), (Residency::default(), None));
        let note = at(24 * GB).unwrap().note().unwrap();
        let start = "24.0 GB of GPU memory are free: 6.5 GB of modulation weights wait in host \
                     memory, some 130 ms a picture; ";
        assert!(note.starts_with(start), "{note}");
        assert!(note.contains(" GB of T5's weights wait in host memory, some "), "{note}");
        let error = at(18 * GB).unwrap_err().to_string();
        assert!(!error.contains("--max-vram"), "{error}");
    }

    #[test]
    fn the_note_says_what_was_chosen_and_what_it_costs() {
        let note = |tenths| choose(&Mode::S, true, tenths).unwrap().note().unwrap();
        assert!(note(310).starts_with("--max-vram 31: all weights stay on the GPU; "));
        let note = note(225);
        assert!(note.starts_with("--max-vram 22.5: "), "{note}");
        assert!(
            note.contains("; T5 computes in e4m3, which changes pictures a little; "),
            "{note}"
        );
    }
}
