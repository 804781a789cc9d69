//! The transformer against diffusers.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Matrix;
use flux_rt::device::Tensor;
use flux_rt::files::File;
use flux_rt::model::config::FluxConfig;
use flux_rt::model::flux;
use flux_rt::model::flux::BlockOutput;
use flux_rt::model::flux::CacheStep;
use flux_rt::model::flux::ModulationLayout;
use flux_rt::model::flux::Planned;
use flux_rt::model::flux::Prepared;
use flux_rt::model::flux::Workspace;
use flux_rt::model::flux::double_block;
use flux_rt::model::flux::prepare::Conditioning;
use flux_rt::model::flux::prepare::activated_vec;
use flux_rt::model::flux::prepare::prepare;
use flux_rt::model::flux::single_block;
use flux_rt::model::plan::BlockPlans;
use flux_rt::model::plan::DoublePlan;
use flux_rt::model::plan::Precision;
use flux_rt::model::plan::SinglePlan;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::elastic::FluxLayout;
use flux_rt::model::weights::flux::FluxWeights;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use flux_rt::ops::euler_step::LatentRounding;
use flux_rt::ops::euler_step::euler_step;

use crate::Expected;
use crate::FOLDERS;
use crate::checkpoint;
use crate::common::F32;
use crate::common::Tolerance;
use crate::common::assert_close;
use crate::common::difference;
use crate::golden;

/// A whole model in f32: errors of the blocks add up.
const WHOLE: Tolerance = Tolerance { atol: 2e-4, rtol: 1e-3, l2: 1e-4 };

struct Case {
    name: &'static str,
    expected: Expected,
    weights: FluxWeights,
    prepared: Prepared,
    step: Tensor<u32, 1>,
}

/// The model of a pipeline, prepared for the inputs of the fixture.
fn case(name: &'static str, dtype: WeightDtype) -> Case {
    let expected = Expected::of(name);
    let config = File::Disk(golden::path(&format!("{name}/transformer/config.json")));
    let config = FluxConfig::read(&config).unwrap();
    let checkpoint = checkpoint(name, "transformer");
    let mut reader = Reader::new(&checkpoint, Component::Transformer).unwrap();
    let weights = FluxWeights::load(&mut reader, &config.clone().into(), dtype).unwrap();
    let prepared = with_conditioning(name, &expected, &config, |conditioning, grid| {
        let (txt_len, steps) = (conditioning.txt.shape()[0], conditioning.timesteps.len());
        let mut prepared = Prepared::new(&Device::Cpu, &config, txt_len, grid, steps).unwrap();
        prepare(&mut prepared, &weights, conditioning).unwrap();
        prepared
    });
    // Row 1 of two steps: a block that ignores the counter would read row 0.
    let step = Tensor::from_host([1], vec![1]);
    Case { name, expected, weights, prepared, step }
}

fn with_conditioning<R>(
    name: &str,
    expected: &Expected,
    config: &FluxConfig,
    body: impl FnOnce(&Conditioning<'_>, [usize; 2]) -> R,
) -> R {
    let txt: Tensor<Act, 2> =
        expected.matrix("transformer.in.encoder_hidden_states", config.joint_attention_dim);
    let pooled = expected.values("transformer.in.pooled_projections");
    let time = 1000.0 * expected.values("transformer.in.sigma")[0];
    let sizes = &golden::json(&format!("{name}/expected.json"))["transformer"]["grid"];
    let grid: [usize; 2] = serde_json::from_value(sizes.clone()).unwrap();
    let conditioning = Conditioning {
        txt: txt.matrix(),
        pooled: Matrix::new(&pooled, 1, pooled.len()),
        timesteps: &[123.0, time],
        guidance: config
            .guidance_embeds
            .then(|| 1000.0 * expected.values("transformer.in.guidance")[0]),
    };
    body(&conditioning, grid)
}

impl Case {
    fn check(&self, name: &str, actual: &[f32], tolerance: Tolerance) {
        let what = format!("{} {name}", self.name);
        assert_close(
            &what,
            actual,
            &self.expected.values(&format!("transformer.{name}")),
            tolerance,
        );
    }

    /// The joint stream after double block `index`, or before the first.
    fn joint(&self, index: Option<usize>) -> Tensor<Act, 2> {
        let hidden = self.weights.config.hidden_size();
        let names = match index {
            None => {
                ["transformer.context_embedder".to_owned(), "transformer.x_embedder".to_owned()]
            }
            Some(index) => {
                ["txt", "img"].map(|stream| format!("transformer.double.{index}.{stream}"))
            }
        };
        let values: Vec<f32> = names.iter().flat_map(|name| self.expected.values(name)).collect();
        Tensor::from_host([values.len() / hidden, hidden], values)
    }
}

#[test]
fn what_is_prepared() {
    for name in FOLDERS {
        let case = case(name, WeightDtype::F32);
        case.check("context_embedder", case.prepared.txt.host(), F32);
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            case.prepared.rope.host().chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
        assert_eq!(cos, case.expected.values("transformer.rope.cos"), "{name}");
        assert_eq!(sin, case.expected.values("transformer.rope.sin"), "{name}");

        let vec =
            with_conditioning(name, &case.expected, &case.weights.config, |conditioning, _| {
                activated_vec(&Device::Cpu, &case.weights, conditioning).unwrap()
            });
        let expected: Vec<f32> = case
            .expected
            .values("transformer.vec")
            .iter()
            .map(|x| x / (1.0 + (-x).exp()))
            .collect();
        // The sinusoid of a guidance of 3500 is exact to 4e-4 only: the f32 angle is that large.
        let tolerance = Tolerance { atol: 2e-3, rtol: 1e-3, l2: 4e-4 };
        assert_close(&format!("{name} vec"), vec.matrix().row(1), &expected, tolerance);
    }
}

#[test]
fn blocks_one_by_one() {
    for name in FOLDERS {
        let case = case(name, WeightDtype::F32);
        let config = &case.weights.config;
        let modulation = ModulationLayout::new(config).at(&case.prepared.modulation, &case.step);
        let [txt_len, hidden] = case.prepared.txt.shape();
        for (index, weights) in case.weights.double.iter().enumerate() {
            let input = case.joint(index.checked_sub(1));
            let [seq, _] = input.shape();
            let mut scratch =
                Workspace::new(&Device::Cpu, config, seq, &plan(config)).unwrap().scratch;
            let mut out = Tensor::zeros(input.shape());
            let vectors = modulation.double(index);
            double_block::forward(
                BlockOutput::from(&mut out),
                &mut scratch,
                &input,
                weights,
                &vectors,
                &case.prepared,
                &DoublePlan::default(),
            )
            .unwrap();
            let (txt, img) = out.host().split_at(txt_len * hidden);
            case.check(&format!("double.{index}.txt"), txt, BLOCK);
            case.check(&format!("double.{index}.img"), img, BLOCK);
            if index == 0 {
                let heads: Vec<f32> = (0..seq)
                    .flat_map(|row| scratch.attention_mlp.act.matrix().row(row)[..hidden].to_vec())
                    .collect();
                case.check("double.0.attention", &heads, BLOCK);
            }
        }
        for (index, weights) in case.weights.single.iter().enumerate() {
            let input = match index.checked_sub(1) {
                None => case.joint(Some(config.num_layers - 1)),
                Some(last) => {
                    case.expected.matrix(&format!("transformer.single.{last}.hidden"), hidden)
                }
            };
            let [seq, _] = input.shape();
            let mut scratch =
                Workspace::new(&Device::Cpu, config, seq, &plan(config)).unwrap().scratch;
            let mut out = Tensor::zeros(input.shape());
            let vectors = modulation.single(index);
            single_block::forward(
                BlockOutput::from(&mut out),
                &mut scratch,
                &input,
                weights,
                vectors,
                &case.prepared,
                &SinglePlan::default(),
            )
            .unwrap();
            case.check(&format!("single.{index}.hidden"), out.host(), BLOCK);
            if index == 0 {
                case.check("single.0.norm", scratch.normed.act.host(), BLOCK);
            }
        }
    }
}

/// One block: what reaches it through the modulation carries the sinusoid's error (see `vec`).
const BLOCK: Tolerance = Tolerance { atol: 1e-3, rtol: 1e-3, l2: 1e-5 };

/// Every block as it is.
fn plan(config: &FluxConfig) -> BlockPlans {
    BlockPlans::plain([config.num_layers, config.num_single_layers])
}

fn whole(case: &Case) -> Tensor<Act, 2> {
    planned(case, &plan(&case.weights.config))
}

fn planned(case: &Case, plan: &BlockPlans) -> Tensor<Act, 2> {
    let config = &case.weights.config;
    let latents = case.expected.values("transformer.in.hidden_states");
    let img_len = latents.len() / config.in_channels;
    let [txt_len, _] = case.prepared.txt.shape();
    let mut workspace = Workspace::new(&Device::Cpu, config, txt_len + img_len, plan).unwrap();
    let mut velocity = Tensor::zeros([img_len, config.out_channels()]);
    let latents = Matrix::<Act>::new(&latents, img_len, config.in_channels);
    flux::forward(
        &mut velocity,
        &mut workspace,
        CacheStep::none(),
        latents,
        Planned::new(&case.weights, plan),
        &case.prepared,
        &case.step,
    )
    .unwrap();
    velocity
}

#[test]
fn whole_forward() {
    for name in FOLDERS {
        let case = case(name, WeightDtype::F32);
        case.check("output", whole(&case).host(), WHOLE);
    }
}

#[test]
fn every_step_of_a_whole_run() {
    for name in FOLDERS {
        let Case { expected, weights, .. } = case(name, WeightDtype::F32);
        let config = &weights.config;
        let run = &golden::json(&format!("{name}/expected.json"))["run"];
        let tokens = |side: &str| run[side].as_u64().unwrap() as usize / 16;
        let txt: Tensor<Act, 2> =
            expected.matrix("pipeline.prompt_embeds", config.joint_attention_dim);
        let guidance =
            config.guidance_embeds.then(|| 1000.0 * run["guidance"].as_f64().unwrap() as f32);
        let pooled = expected.values("pipeline.pooled");
        let (txt_len, steps) = (txt.shape()[0], expected.values("pipeline.timesteps").len());
        let grid = [tokens("height"), tokens("width")];
        let mut prepared = Prepared::new(&Device::Cpu, config, txt_len, grid, steps).unwrap();
        prepare(
            &mut prepared,
            &weights,
            &Conditioning {
                txt: txt.matrix(),
                pooled: Matrix::new(&pooled, 1, pooled.len()),
                timesteps: &expected.values("pipeline.timesteps"),
                guidance,
            },
        )
        .unwrap();
        let sigmas = expected.values("pipeline.sigmas");
        let sigmas = Tensor::from_host([sigmas.len()], sigmas);
        let mut step = Tensor::from_host([1], vec![0]);
        let mut latents: Tensor<Act, 2> = expected.matrix("pipeline.packed", config.in_channels);
        let [img_len, _] = latents.shape();
        let mut workspace =
            Workspace::new(&Device::Cpu, config, txt.shape()[0] + img_len, &plan(config)).unwrap();
        let mut velocity = Tensor::zeros([img_len, config.out_channels()]);
        for index in 0..sigmas.shape()[0] - 1 {
            let input = latents.matrix();
            let cache = CacheStep::none();
            let plan = plan(config);
            let transformer = Planned::new(&weights, &plan);
            flux::forward(
                &mut velocity,
                &mut workspace,
                cache,
                input,
                transformer,
                &prepared,
                &step,
            )
            .unwrap();
            let what = format!("{name} velocity {index}");
            let golden = expected.values(&format!("pipeline.velocity.{index}"));
            assert_close(&what, velocity.host(), &golden, WHOLE);
            euler_step(&mut latents, &velocity, &sigmas, &mut step, LatentRounding::F32).unwrap();
            let what = format!("{name} latents {index}");
            let golden = expected.values(&format!("pipeline.latents.{index}"));
            assert_close(&what, latents.host(), &golden, WHOLE);
        }
    }
}

#[test]
fn weights_kept_in_bf16_give_the_same() {
    // The fixture's weights are bf16 numbers, so keeping them so loses nothing.
    for name in FOLDERS {
        let case = case(name, WeightDtype::Bf16);
        case.check("output", whole(&case).host(), WHOLE);
    }
}

/// One set of weights serves two plans: the plain one to the bit, fp8 about as e4m3 rounds, 2^-4.
#[test]
fn plans_share_a_transformer() {
    let name = FOLDERS[0];
    let plain = case(name, WeightDtype::F32);
    let config = &plain.weights.config;
    let fp8 = BlockPlans {
        double: vec![DoublePlan::linears(Precision::Fp8); config.num_layers],
        single: vec![SinglePlan::linears(Precision::Fp8); config.num_single_layers],
    };
    let layout = FluxLayout { config: config.clone(), plans: vec![plan(config), fp8.clone()] };
    let checkpoint = checkpoint(name, "transformer");
    let mut reader = Reader::new(&checkpoint, Component::Transformer).unwrap();
    let weights = FluxWeights::load(&mut reader, &layout, WeightDtype::F32).unwrap();
    let both = Case { weights, ..case(name, WeightDtype::F32) };
    let expected = whole(&plain);
    assert_eq!(whole(&both).host(), expected.host());
    let rounded = planned(&both, &fp8);
    let coarse = Tolerance { atol: 0.5, rtol: 0.1, l2: 5e-2 };
    assert_close("in fp8", rounded.host(), expected.host(), coarse);
    assert!(difference(rounded.host(), expected.host(), WHOLE).is_err(), "nothing was rounded");
}
