//! Finds the fastest plan whose loss stays under a bound: measures what each change costs in each block, and
//! what it brings.

use std::time::Instant;

use crate::device::Device;
use crate::elastic::Measured;
use crate::elastic::Mode;
use crate::elastic::Plan;
use crate::elastic::choice::Change;
use crate::elastic::choice::Choice;
use crate::elastic::choice::choose;
use crate::elastic::choice::plan_of;
use crate::elastic::cost::cost;
use crate::error::Error;
use crate::error::Result;
use crate::model::plan::BlockPlans;
use crate::pipeline::Engine;
use crate::pipeline::Request;
use crate::pipeline::RgbImage;
use crate::pipeline::Settings;
use crate::pipeline::modes::LoadedMode;
use crate::pipeline::planning::offer;
use crate::pipeline::probe::Probe;
use crate::pipeline::widths::Progress;
use crate::pipeline::widths::looked_at;
use crate::pipeline::widths::report;

/// Of each change's loss: the first few prompts and every so manieth of their steps tell enough to choose by.
const SAMPLED_PROMPTS: usize = 2;
const SAMPLED_STRIDE: usize = 3;
/// Losses do not quite add up: the sum that is allowed is changed this often until the plan's own fits.
const ROUNDS: usize = 10;
/// Runs of which the median counts, where time is measured.
const RUNS: usize = 3;
/// A square no smaller than this is put down as a change's loss: none is free.
const LEAST_LOSS: f64 = 1e-12;

/// A plan and what it was chosen from.
#[derive(Debug)]
pub struct Planned {
    /// With its measured loss and gain.
    pub plan: Plan,
    /// Every change of every block.
    pub choices: Vec<Choice>,
    /// Which of them the plan makes.
    pub taken: Vec<bool>,
    /// Whether gains were measured here, or told from the table of kernels.
    pub measured_gains: bool,
    /// Loss and time of the modes' built-in plans, to choose a bound by.
    pub built_in: Vec<(Mode, f64, f64)>,
}

/// Refuses a bound that is none, before anything is loaded for it.
///
/// # Errors
/// [`Error::Request`].
pub fn check_bound(max_loss: f64) -> Result<()> {
    if max_loss > 0.0 && max_loss < 1.0 {
        return Ok(());
    }
    let reason = format!("expected a number between 0 and 1, found {max_loss}");
    Err(Error::Request { field: "max-loss", reason })
}

impl Engine {
    /// The fastest plan found, built-in ones among them, whose velocities differ from those of full width in bf16 by at most `max_loss`
    /// (relative L2, over steps of `requests`). The engine must have been built with
    /// [`crate::pipeline::EngineBuilder::planning`], in mode XL.
    ///
    /// # Errors
    /// [`Error::Request`] for a bound that is none; those of [`Engine::generate`].
    pub fn make_plan(
        &mut self,
        name: &str,
        max_loss: f64,
        requests: &[Request],
        progress: Progress<'_>,
    ) -> Result<Planned> {
        check_bound(max_loss)?;
        let config = self.components.flux.config.clone();
        let blocks = [config.num_layers, config.num_single_layers];
        let offer = offer(&self.components.device, &self.files, &config)?;
        let ladders = offer.ladders(&config);
        let of_block = |block: usize| &ladders[usize::from(block >= blocks[0])];
        let changes: usize =
            (0..blocks[0] + blocks[1]).map(|block| of_block(block).concat().len()).sum();
        let all = requests.len() + changes + 2 * requests.len();

        let mut probes = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            report(progress, index, all)?;
            let steps = looked_at(Settings::new(request, &self.defaults)?.steps);
            probes.push(self.probe(request, &steps, &|_, _, _| Ok(()))?);
        }
        let plain = BlockPlans::plain(blocks);
        let sample = &probes[..probes.len().min(SAMPLED_PROMPTS)];
        let sample = Reference::new(self, sample, SAMPLED_STRIDE, &plain)?;
        let reference = Reference::new(self, &probes, 1, &plain)?;
        let first = probes.first().ok_or_else(|| Error::Request {
            field: "prompt",
            reason: "expected at least one to measure with, found none".into(),
        })?;
        let mut gains = Gains::new(self, first, blocks)?;
        let mut choices: Vec<Choice> = Vec::new();
        for block in 0..blocks[0] + blocks[1] {
            for ladder in of_block(block) {
                let (mut plan, mut before) = (plain.clone(), 0.0);
                let mut needs = None;
                for (rung, &change) in ladder.iter().enumerate() {
                    report(progress, requests.len() + choices.len(), all)?;
                    change.apply(&mut plan, block);
                    let square = sample.square_loss(self, &plan)?;
                    let gain = gains.of(self, &ladder[..=rung], block)?;
                    let loss = (square - before).max(LEAST_LOSS);
                    choices.push(Choice { block, change, needs, loss, gain });
                    needs = Some(choices.len() - 1);
                    before = before.max(square);
                }
            }
        }

        let (mut taken, mut plans, mut loss) = self.within(max_loss, &choices, &reference)?;
        let mut time = gains.time(self, &plans)? / gains.time(self, &plain)?;
        let mut built_in = Vec::new();
        for mode in [Mode::L, Mode::M, Mode::S] {
            let Some(plan) = Plan::built_in(&mode, blocks) else { continue };
            // Its forms are loaded where all that it asks for can be chosen.
            if offer.linears && offer.attention {
                let its_loss = reference.square_loss(self, &plan.blocks)?.sqrt();
                let its_time = gains.time(self, &plan.blocks)? / gains.time(self, &plain)?;
                built_in.push((mode, its_loss, its_time));
                // Losses that do not add up may hide it from a search that adds them.
                if its_loss <= max_loss && its_time < time {
                    taken = choices.iter().map(|choice| choice.is_made_in(&plan.blocks)).collect();
                    (plans, loss, time) = (plan.blocks, its_loss, its_time);
                }
            }
        }
        let mut plan = Plan {
            name: name.to_owned(),
            blocks: plans,
            model: self.files.transformer_digest()?,
            measured: None,
        };
        let psnr = self.mean_psnr(&plan, requests, &mut |done, _| {
            progress(requests.len() + changes + done, all)
        })?;
        plan.measured = Some(Measured { loss, psnr, time, ssim: None, retrieval: None });
        let measured_gains = gains.measured;
        Ok(Planned { plan, choices, taken, measured_gains, built_in })
    }

    /// Changes the sum of losses that is allowed until the plan's own comes to the bound from below.
    fn within(
        &self,
        max_loss: f64,
        choices: &[Choice],
        reference: &Reference<'_>,
    ) -> Result<(Vec<bool>, BlockPlans, f64)> {
        let config = &self.components.flux.config;
        let blocks = [config.num_layers, config.num_single_layers];
        let bound = max_loss * max_loss;
        let (mut budget, mut enough, mut too_much) = (bound, 0.0, None);
        let mut best = (vec![false; choices.len()], BlockPlans::plain(blocks), 0.0);
        for _ in 0..ROUNDS {
            let taken = choose(choices, budget);
            let plans = plan_of(choices, &taken, blocks);
            let square = reference.square_loss(self, &plans)?;
            let all_taken =
                choices.iter().zip(&taken).all(|(choice, &taken)| taken || choice.gain <= 0.0);
            let gain = |taken: &[bool]| -> f64 {
                let made = choices.iter().zip(taken).filter(|(_, taken)| **taken);
                made.map(|(choice, _)| choice.gain).sum()
            };
            if square <= bound && gain(&taken) >= gain(&best.0) {
                best = (taken, plans, square.sqrt());
            }
            if (0.97..=1.0).contains(&(square / bound)) || square <= bound && all_taken {
                break;
            }
            if square <= bound {
                enough = budget;
            } else {
                too_much = Some(budget);
            }
            // As if losses added up, as long as that stays between what was tried.
            let (lower, upper) = (enough.max(budget / 8.0), too_much.unwrap_or(8.0 * budget));
            let ratio = bound / square.max(LEAST_LOSS);
            let next = budget * if ratio < 1.0 { ratio * 0.95 } else { ratio };
            let inside = lower * 1.02 < next && next < upper / 1.02;
            budget = if inside { next } else { (lower * upper).sqrt() };
        }
        Ok(best)
    }

    /// The mean PSNR of pictures under `plan` against those of the active mode.
    fn mean_psnr(
        &mut self,
        plan: &Plan,
        requests: &[Request],
        progress: Progress<'_>,
    ) -> Result<f64> {
        let mode = Mode::Plan(format!("{}.json", plan.name).into());
        let reference = self.mode().clone();
        self.modes.push(LoadedMode { mode: mode.clone(), plan: plan.clone(), lowered: Vec::new() });
        let pictures = self.compare_modes([&reference, &mode], requests, progress);
        self.use_mode(&reference)?;
        self.modes.pop();
        let psnrs = pictures?;
        Ok(psnrs.iter().sum::<f64>() / psnrs.len().max(1) as f64)
    }

    fn compare_modes(
        &mut self,
        modes: [&Mode; 2],
        requests: &[Request],
        progress: Progress<'_>,
    ) -> Result<Vec<f64>> {
        let mut pictures: [Vec<RgbImage>; 2] = [Vec::new(), Vec::new()];
        for (index, (mode, pictures)) in modes.into_iter().zip(&mut pictures).enumerate() {
            self.use_mode(mode)?;
            for request in requests {
                let done = index * requests.len() + pictures.len();
                report(progress, done, 2 * requests.len())?;
                pictures.push(self.generate(request)?.image);
            }
        }
        let [exact, found] = pictures;
        Ok(exact.iter().zip(&found).map(|(exact, found)| exact.psnr(found)).collect())
    }
}

/// What full width in bf16 predicts at some steps of some pictures.
struct Reference<'p> {
    probes: &'p [Probe],
    stride: usize,
    exact: Vec<Vec<f32>>,
}

impl<'p> Reference<'p> {
    fn new(
        engine: &Engine,
        probes: &'p [Probe],
        stride: usize,
        plain: &BlockPlans,
    ) -> Result<Self> {
        let mut reference = Self { probes, stride, exact: Vec::new() };
        reference.exact = reference.velocities(engine, plain)?;
        Ok(reference)
    }

    fn velocities(&self, engine: &Engine, plan: &BlockPlans) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::new();
        for probe in self.probes {
            all.extend(engine.velocities(probe, plan, self.stride)?);
        }
        Ok(all)
    }

    /// The square of the relative L2 error of the velocities under `plan`, in the mean.
    fn square_loss(&self, engine: &Engine, plan: &BlockPlans) -> Result<f64> {
        let found = self.velocities(engine, plan)?;
        let squares =
            found.iter().zip(&self.exact).map(|(found, exact)| square_error(found, exact));
        Ok(squares.sum::<f64>() / self.exact.len().max(1) as f64)
    }
}

/// What changes bring: measured where kernels run, else from their table.
struct Gains<'p> {
    probe: &'p Probe,
    blocks: [usize; 2],
    measured: bool,
    /// Of all blocks of a kind with some changes, which cost the same in each of them.
    known: Vec<(bool, Vec<Change>, f64)>,
    plain: f64,
}

impl<'p> Gains<'p> {
    fn new(engine: &Engine, probe: &'p Probe, blocks: [usize; 2]) -> Result<Self> {
        let measured = matches!(engine.components.device, Device::Cuda(_));
        let mut gains = Self { probe, blocks, measured, known: Vec::new(), plain: 0.0 };
        gains.plain = gains.time(engine, &BlockPlans::plain(blocks))?;
        Ok(gains)
    }

    /// The time of a step under a plan, in seconds or in the table's units.
    fn time(&self, engine: &Engine, plan: &BlockPlans) -> Result<f64> {
        if !self.measured {
            return Ok(cost(&engine.components.flux.config, plan, self.probe.tokens()));
        }
        let mut times = Vec::new();
        // The first loads kernels.
        for _ in 0..=RUNS {
            let clock = Instant::now();
            engine.velocities(self.probe, plan, SAMPLED_STRIDE)?;
            times.push(clock.elapsed().as_secs_f64());
        }
        times.remove(0);
        times.sort_unstable_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }

    /// The share of a step that the last of `changes` saves in one block, the others being made.
    fn of(&mut self, engine: &Engine, changes: &[Change], block: usize) -> Result<f64> {
        let with = self.of_kind(engine, changes, block)?;
        let without = self.of_kind(engine, &changes[..changes.len() - 1], block)?;
        let count = self.blocks[usize::from(block >= self.blocks[0])];
        Ok((without - with) / self.plain / count as f64)
    }

    fn of_kind(&mut self, engine: &Engine, changes: &[Change], block: usize) -> Result<f64> {
        let single = block >= self.blocks[0];
        if changes.is_empty() {
            return Ok(self.plain);
        }
        let same =
            |(kind, known, _): &&(bool, Vec<Change>, f64)| *kind == single && known == changes;
        if let Some((_, _, time)) = self.known.iter().find(same) {
            return Ok(*time);
        }
        let mut plan = BlockPlans::plain(self.blocks);
        let [double, all] = [self.blocks[0], self.blocks[0] + self.blocks[1]];
        for block in if single { double..all } else { 0..double } {
            changes.iter().for_each(|change| change.apply(&mut plan, block));
        }
        let time = self.time(engine, &plan)?;
        self.known.push((single, changes.to_vec(), time));
        Ok(time)
    }
}

fn square_error(found: &[f32], exact: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let errors = found.iter().zip(exact).map(|(found, exact)| square(found - exact));
    errors.sum::<f64>() / exact.iter().copied().map(square).sum::<f64>().max(f64::MIN_POSITIVE)
}
