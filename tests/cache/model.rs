//! The transformer of `tests/goldens/cache` with the cache around it, on any device.

use std::collections::BTreeMap;

use flux_rt::cache::CacheOptions;
use flux_rt::cache::ListSchedule;
use flux_rt::cache::Verdict;
use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::files::File;
use flux_rt::files::Folder;
use flux_rt::model::config::FluxConfig;
use flux_rt::model::flux;
use flux_rt::model::flux::CacheStep;
use flux_rt::model::flux::Planned;
use flux_rt::model::flux::Prepared;
use flux_rt::model::flux::Workspace;
use flux_rt::model::flux::cached::CachedList;
use flux_rt::model::flux::prepare::Conditioning;
use flux_rt::model::flux::prepare::prepare;
use flux_rt::model::plan::BlockPlans;
use flux_rt::model::weights::checkpoint::Checkpoint;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::flux::FluxWeights;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::offload::Residency;
use flux_rt::model::weights::reader::Reader;
use flux_rt::model::weights::tensor_source::Placement;
use flux_rt::ops::euler_step::LatentRounding;
use flux_rt::ops::euler_step::euler_step;
use flux_rt::pipeline::schedule::TimeRounding;
use flux_rt::pipeline::schedule::model_guidance;
use half::bf16;

use crate::golden;

/// Rows and columns of image tokens.
const GRID: [usize; 2] = [4, 5];
const TXT: usize = 8;
pub(crate) const STEPS: usize = 28;

/// Everything that the runs share.
pub(crate) struct Model {
    pub(crate) expected: BTreeMap<String, Vec<f64>>,
    weights: FluxWeights,
    device: Device,
}

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) latents: Vec<f32>,
    /// Of each list, of each step.
    pub(crate) verdicts: Vec<Vec<Verdict>>,
}

impl Model {
    pub(crate) fn load(device: &Device, dtype: WeightDtype) -> Self {
        let config = File::Disk(golden::path("cache/transformer/config.json"));
        let config = FluxConfig::read(&config).unwrap();
        let folder = Folder::Disk(golden::path("cache/transformer"));
        let checkpoint = Checkpoint::open_folder(&folder).unwrap();
        let mut reader = Reader::new(&checkpoint, Component::Transformer).unwrap();
        let weights = FluxWeights::load(
            &mut reader,
            &config.into(),
            Placement { device: device.clone(), dtype, residency: Residency::default() },
        )
        .unwrap();
        let expected = golden::tensors("cache/expected.safetensors");
        Self { expected, weights, device: device.clone() }
    }

    /// An input, rounded as a bf16 pipeline has it.
    fn input(&self, name: &str, columns: usize, bf16: bool) -> Tensor<Act, 2> {
        let mut values = golden::narrow(&self.expected[name]);
        if bf16 {
            values.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32());
        }
        let tensor = Tensor::from_host([values.len() / columns, columns], values);
        tensor.to_device(&self.device).unwrap()
    }

    /// All steps of one picture, with or without a cache.
    pub(crate) fn run(&self, options: Option<&CacheOptions>, guidance: f32, bf16: bool) -> Outcome {
        let device = &self.device;
        let config = &self.weights.config;
        let seq = TXT + GRID[0] * GRID[1];
        let schedules = match options {
            Some(options) => {
                let blocks = [config.num_layers, config.num_single_layers];
                options.schedule(blocks, STEPS, bf16).unwrap()
            }
            None => Vec::new(),
        };
        let list = |schedule: &ListSchedule| {
            let shape = [seq, config.hidden_size()];
            let mut list =
                CachedList::new(device, schedule.blocks.clone(), shape, TXT, STEPS).unwrap();
            list.reset().unwrap();
            list.decider.reset(&schedule.limits, &schedule.replay).unwrap();
            list
        };
        let mut lists: Vec<CachedList> = schedules.iter().map(list).collect();

        let plan = BlockPlans::plain([config.num_layers, config.num_single_layers]);
        let mut prepared = self.prepared(guidance, bf16);
        let mut workspace = Workspace::new(device, config, seq, &plan).unwrap();
        let mut latents = self.input("latents", config.in_channels, bf16);
        let mut velocity = Tensor::empty(device, latents.shape()).unwrap();
        let sigmas = golden::narrow(&self.expected["sigmas"]);
        let sigmas = Tensor::from_host([STEPS + 1], sigmas).to_device(device).unwrap();
        let mut step = Tensor::from_host([1], vec![0]).to_device(device).unwrap();
        let rounding = if bf16 { LatentRounding::DiffusersBf16 } else { LatentRounding::F32 };
        for at in 0..STEPS {
            let actions: Vec<_> = schedules.iter().map(|list| list.actions[at]).collect();
            let cache = CacheStep { lists: &mut lists, actions: &actions };
            let view = latents.matrix();
            let prepared = &mut prepared;
            flux::forward(
                &mut velocity,
                &mut workspace,
                cache,
                view,
                Planned::new(&self.weights, &plan),
                prepared,
                &step,
            )
            .unwrap();
            euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding).unwrap();
        }
        let verdicts = schedules.iter().zip(&lists).map(|(schedule, list)| {
            let decided = list.decider.log().unwrap();
            let steps = schedule.known.iter().zip(decided);
            steps.map(|(known, decided)| known.or(decided).unwrap()).collect()
        });
        let verdicts = verdicts.collect();
        Outcome { latents: latents.to_host().unwrap().host().to_vec(), verdicts }
    }

    fn prepared(&self, guidance: f32, bf16: bool) -> Prepared {
        let config = &self.weights.config;
        let times = if bf16 { TimeRounding::DiffusersBf16 } else { TimeRounding::F32 };
        let txt = self.input("prompt_embeds", config.joint_attention_dim, bf16);
        let pooled = self.input("pooled", config.pooled_projection_dim, bf16);
        let schedule = flux_rt::pipeline::schedule::Schedule {
            sigmas: golden::narrow(&self.expected["sigmas"]),
            timesteps: golden::narrow(&self.expected["timesteps"]),
        };
        let mut prepared = Prepared::new(&self.device, config, TXT, GRID, STEPS).unwrap();
        let conditioning = Conditioning {
            txt: txt.matrix(),
            pooled: pooled.matrix(),
            timesteps: &schedule.model_times(times),
            guidance: Some(model_guidance(guidance, times)),
        };
        prepare(&mut prepared, &self.weights, &conditioning).unwrap();
        prepared
    }
}
