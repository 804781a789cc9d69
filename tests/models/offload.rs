//! Weights that wait in host memory give the bits of those that stay; T5 in e4m3 stays near itself.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::model::flux::Prepared;
use flux_rt::model::flux::prepare::Conditioning;
use flux_rt::model::flux::prepare::prepare;
use flux_rt::model::plan::BlockPlans;
use flux_rt::model::source::ModelFiles;
use flux_rt::model::source::ModelSource;
use flux_rt::model::t5;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::offload::Residency;
use flux_rt::model::weights::tensor_source::Placement;

use crate::common::gpu;
use crate::common::gpu::Gpu;
use crate::common::random;
use crate::golden;

/// Text tokens, and steps.
const TXT: usize = 24;
const STEPS: usize = 5;

fn demo() -> ModelFiles {
    let folder = golden::data::path("models/demo");
    ModelSource::new(folder.to_string_lossy()).resolve().unwrap()
}

fn placement(device: &Device, residency: Residency) -> Placement {
    Placement { device: device.clone(), dtype: WeightDtype::Bf16, residency }
}

/// The text projection and the modulation table of all steps.
fn prepared(device: &Device, files: &ModelFiles, residency: Residency) -> [Vec<f32>; 2] {
    let config = files.flux_config().unwrap();
    let plans = [BlockPlans::plain([config.num_layers, config.num_single_layers])];
    let weights = files.load_flux_for(&plans, placement(device, residency)).unwrap();
    let operand = |rows, width, seed| -> Tensor<Act, 2> {
        let values = Tensor::from_host([rows, width], random(rows * width, seed));
        values.to_device(device).unwrap()
    };
    let txt = operand(TXT, config.joint_attention_dim, 1);
    let pooled = operand(1, config.pooled_projection_dim, 2);
    let timesteps: Vec<f32> = (1..=STEPS).map(|step| 1000.0 / step as f32).collect();
    let mut prepared = Prepared::new(device, &config, TXT, [2, 3], STEPS).unwrap();
    let conditioning = Conditioning {
        txt: txt.matrix(),
        pooled: pooled.matrix(),
        timesteps: &timesteps,
        guidance: config.guidance_embeds.then_some(3500.0),
    };
    // Twice: the second time into memory that the first gave back.
    for _ in 0..2 {
        prepare(&mut prepared, &weights, &conditioning).unwrap();
    }
    [prepared.txt, prepared.modulation].map(|tensor| tensor.to_host().unwrap().host().to_vec())
}

fn encoded(device: &Device, files: &ModelFiles, residency: Residency) -> Vec<f32> {
    let weights = files.load_t5(placement(device, residency)).unwrap();
    let ids: Vec<u32> = (0..64).map(|index| index * 7 % 900).collect();
    let states = || t5::encode(device, &weights, &ids).unwrap().to_host().unwrap();
    let first = states();
    assert!(first.host() == states().host(), "the same bits again");
    first.host().to_vec()
}

/// 6 double and 8 single blocks have 2 * 6 + 8 + 1 layers.
fn modulation_is_the_same_wherever_it_waits(device: &Device) {
    let files = demo();
    let at = |modulation_offloaded| Residency { modulation_offloaded, ..Residency::default() };
    let expected = prepared(device, &files, at(0));
    assert!(expected.iter().flatten().all(|value| value.is_finite()));
    for waiting in [1, 2, 9, 20, 21, 99] {
        assert!(prepared(device, &files, at(waiting)) == expected, "{waiting} wait");
    }
}

fn t5_is_the_same_wherever_it_waits(device: &Device, precisions: &[bool]) {
    let files = demo();
    for &t5_fp8 in precisions {
        let at = |t5_offloaded| Residency { t5_fp8, t5_offloaded, ..Residency::default() };
        let expected = encoded(device, &files, at(0));
        for waiting in [1, 2, 3] {
            assert!(encoded(device, &files, at(waiting)) == expected, "{waiting} wait");
        }
    }
}

#[test]
fn offloaded_weights_give_the_same_bits() {
    modulation_is_the_same_wherever_it_waits(&Device::Cpu);
    t5_is_the_same_wherever_it_waits(&Device::Cpu, &[false, true]);
}

#[test]
fn cuda_offloaded_weights_give_the_same_bits() {
    let Some(gpu) = gpu::gpu() else { return };
    modulation_is_the_same_wherever_it_waits(&gpu);
    let precisions: &[bool] = if gpu.has_fp8() { &[false, true] } else { &[false] };
    t5_is_the_same_wherever_it_waits(&gpu, precisions);
}

/// Rounding to e4m3 moves a number by 2.6 % in the mean, both operands by 3.7 %; a sum over many
/// moves as much. Two blocks add four such products to the stream.
const FP8: f64 = 0.1;

#[test]
fn t5_in_e4m3_stays_near_itself() {
    let files = demo();
    let [plain, fp8] = [false, true]
        .map(|t5_fp8| encoded(&Device::Cpu, &files, Residency { t5_fp8, ..Residency::default() }));
    let error = relative(&fp8, &plain);
    println!("T5 of the demo in e4m3: {error:.2e}");
    assert!((1e-4..=FP8).contains(&error), "{error}");
}

/// Activations are in bf16 there, and what they are moved by turns e4m3 numbers that lie near a tie.
#[test]
fn cuda_t5_in_e4m3_stays_near_the_cpus() {
    let Some(gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    let files = demo();
    let fp8 = Residency { t5_fp8: true, ..Residency::default() };
    let actual = encoded(&gpu, &files, fp8);
    for (what, expected) in [("in e4m3", fp8), ("in bf16", Residency::default())] {
        let error = relative(&actual, &encoded(&Device::Cpu, &files, expected));
        println!("T5 of the demo in e4m3 on CUDA, to the CPU's {what}: {error:.2e}");
        assert!(error <= FP8, "{what}: {error}");
    }
}

/// Relative L2 of finite numbers.
fn relative(actual: &[f32], expected: &[f32]) -> f64 {
    assert!(actual.iter().chain(expected).all(|value| value.is_finite()));
    let square = |value: f32| f64::from(value).powi(2);
    let error: f64 = actual.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (error / expected.iter().map(|b| square(*b)).sum::<f64>()).sqrt()
}
