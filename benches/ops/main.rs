//! Every op: on a GPU at the shapes of a 1024 x 1024 image of FLUX.1-dev, timed with CUDA events;
//! without a GPU on the CPU, at FLUX.1's head and channel sizes but fewer tokens and pixels.
//!
//! `cargo bench --bench ops -- gemm` runs the cases whose name matches, and sets up no others. On a
//! GPU a table follows at the end; `cuda.rs` says what it holds.

mod add_scaled;
mod attention;
mod branch;
mod conv2d;
mod cuda;
mod embedding;
mod euler_step;
mod gated_gelu;
mod gemm;
mod gemm_qkv;
mod groupnorm_silu;
mod layernorm;
mod layernorm_modulate;
mod noise;
mod pack;
mod quantize;
mod quantize_qkv;
mod random_normal;
mod residual_diff;
mod rmsnorm;
mod taylor;
mod timestamp;
mod timestep_embedding;
mod to_rgb8;
mod upsample;

use std::time::Duration;

use criterion::Criterion;
use criterion::Throughput;
use flux_rt::Result;
use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Element;
use flux_rt::device::Quantized;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Weight;
use half::bf16;

use crate::cuda::SAMPLES;
use crate::cuda::Timer;

/// What one call of an op has to do, whatever the kernel.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    /// Two for each multiply-add of a matrix product; 0 for ops that only pass over their data.
    flops: usize,
    /// Activations and weights that have to be read or written: bf16 on CUDA, f32 on the CPU.
    values: usize,
    /// Bytes of everything else.
    bytes: usize,
    /// The products' operands are e4m3.
    fp8: bool,
}

impl Work {
    fn bytes_on(self, device: &Device) -> usize {
        let value =
            if matches!(device, Device::Cpu) { size_of::<f32>() } else { size_of::<bf16>() };
        self.values * value + self.bytes
    }
}

/// Runs the cases and keeps what is reported at the end.
struct Bench {
    criterion: Criterion,
    device: Device,
    /// Made for the first case that runs.
    timer: Option<Timer>,
    rows: Vec<cuda::Row>,
}

impl Bench {
    /// On the first GPU, or the CPU where there is none. `FLUX_RT_GPU_TIER=portable` times the kernels of
    /// every card.
    #[expect(clippy::print_stdout, reason = "says what is timed")]
    fn new() -> Self {
        let criterion = Criterion::default();
        let (criterion, device) = match Device::cuda(0) {
            Ok(device) => {
                let tier = std::env::var_os("FLUX_RT_GPU_TIER");
                if let Device::Cuda(cuda) = &device {
                    cuda.set_portable(tier.is_some_and(|tier| tier == "portable"));
                }
                let criterion = criterion.sample_size(SAMPLES).nresamples(10_000);
                let criterion = criterion.warm_up_time(Duration::from_millis(500));
                (criterion.measurement_time(Duration::from_secs(1)), device)
            }
            Err(error) => {
                println!("on the CPU, with smaller shapes: {error}");
                (criterion.sample_size(20), Device::Cpu)
            }
        };
        let criterion = criterion.configure_from_args();
        Self { criterion, device, timer: None, rows: Vec::new() }
    }

    /// The cases for the device at hand.
    fn pick<T>(&self, cpu: T, cuda: T) -> T {
        if matches!(self.device, Device::Cpu) { cpu } else { cuda }
    }

    /// Times what `setup` returns; it is called only if the filter lets the case through.
    fn case<F: FnMut() -> Result<()>>(
        &mut self,
        op: &'static str,
        shape: &str,
        work: Work,
        setup: impl FnOnce(&Device) -> Result<F>,
    ) {
        let Self { criterion, device, timer, rows } = self;
        let mut group = criterion.benchmark_group(op);
        group.throughput(match work.flops {
            0 => Throughput::BytesDecimal(work.bytes_on(device) as u64),
            flops => Throughput::Elements(flops as u64),
        });
        let mut setup = Some(setup);
        let mut body = None;
        let mut median_us = None;
        group.bench_function(shape, |bencher| {
            if let Some(setup) = setup.take() {
                body = Some(setup(device).expect("the operands are made"));
            }
            let body = body.as_mut().expect("made above");
            let Device::Cuda(cuda) = &*device else {
                return bencher.iter(|| body().expect("the op runs"));
            };
            let timer = timer.get_or_insert_with(|| Timer::new(cuda).expect("the timer is made"));
            if median_us.is_none() {
                timer.begin_case(body).expect("the op runs");
            }
            bencher.iter_custom(|iters| timer.time(iters, body).expect("the op runs"));
            median_us = timer.median_us();
        });
        group.finish();
        if let Some(median_us) = median_us {
            rows.push(cuda::Row { op, shape: shape.to_owned(), work, median_us });
        }
    }
}

/// Numbers that are made on the host; larger tensors repeat them.
const RANDOM_LEN: usize = 1 << 22;

/// Repeatable numbers in [-1, 1): speed and power depend on the data, so never zeros.
#[expect(clippy::cast_precision_loss, reason = "24 bits fit f32")]
fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A tensor of what `number` gives, whose rows repeat after [`RANDOM_LEN`] elements.
fn tiled<T: Element, const R: usize>(
    device: &Device,
    shape: [usize; R],
    number: impl FnMut() -> T::Host,
) -> Result<Tensor<T, R>> {
    let columns = shape[R - 1];
    let rows = shape.iter().product::<usize>() / columns;
    let period = rows.min((RANDOM_LEN / columns).max(1));
    let mut number = number;
    let values = (0..period * columns).map(|_| number()).collect();
    let first = Tensor::<T, 2>::from_host([period, columns], values).to_device(device)?;
    if period == rows {
        return Ok(first.reshape(shape));
    }
    let mut all = Tensor::<T, 2>::empty(device, [rows, columns])?;
    for start in (0..rows).step_by(period) {
        let len = period.min(rows - start);
        let mut part = all.matrix_mut().rows(start..start + len);
        part.copy_from(first.matrix().rows(0..len))?;
    }
    Ok(all.reshape(shape))
}

/// A random tensor.
fn random<T: Element<Host = f32>, const R: usize>(
    device: &Device,
    shape: [usize; R],
    seed: u64,
) -> Result<Tensor<T, R>> {
    tiled(device, shape, numbers(seed))
}

/// A random weight matrix: f32 on the CPU, bf16 on CUDA.
fn weight(device: &Device, shape: [usize; 2], seed: u64) -> Result<Weight> {
    if matches!(device, Device::Cpu) {
        return Ok(Weight::F32(random(device, shape, seed)?));
    }
    let mut number = numbers(seed);
    Ok(Weight::Bf16(tiled(device, shape, || bf16::from_f32(number()))?))
}

/// Random numbers in e4m3.
fn quantized(device: &Device, shape: [usize; 2], scaling: Scaling, seed: u64) -> Result<Quantized> {
    let x: Tensor<Act, 2> = random(device, shape, seed)?;
    let mut out = Quantized::empty(device, shape, scaling)?;
    flux_rt::ops::quantize::quantize(out.view_mut(), x.matrix(), None)?;
    Ok(out)
}

/// Units of columns whose numbers are near 1.
fn units(device: &Device, columns: usize) -> Result<Tensor<f32, 1>> {
    Tensor::from_host([columns], vec![1.0; columns]).to_device(device)
}

/// A counter of steps on the device.
fn step(device: &Device, step: u32) -> Result<Tensor<u32, 1>> {
    Tensor::from_host([1], vec![step]).to_device(device)
}

fn main() {
    let mut bench = Bench::new();
    for run in [
        add_scaled::run,
        attention::run,
        branch::run,
        conv2d::run,
        embedding::run,
        euler_step::run,
        gated_gelu::run,
        gemm::run,
        gemm_qkv::run,
        groupnorm_silu::run,
        layernorm::run,
        layernorm_modulate::run,
        noise::run,
        pack::run,
        quantize::run,
        quantize_qkv::run,
        random_normal::run,
        residual_diff::run,
        rmsnorm::run,
        taylor::run,
        timestamp::run,
        timestep_embedding::run,
        to_rgb8::run,
        upsample::run,
    ] {
        run(&mut bench);
    }
    bench.criterion.final_summary();
    if let Some(timer) = &mut bench.timer {
        timer.print_table(&bench.device, &bench.rows).expect("a copy that fits");
    }
}
