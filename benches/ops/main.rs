//! Every op on the CPU at FLUX.1's head and channel sizes, scaled down in tokens and pixels.
//!
//! `cargo bench --bench ops -- gemm` runs one op; rates are elements or multiply-adds a second.

mod attention;
mod conv2d;
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
mod random_normal;
mod rmsnorm;
mod timestep_embedding;
mod to_rgb8;
mod upsample;

use criterion::Criterion;
use criterion::Throughput;
use flux_rt::device::Element;
use flux_rt::device::Tensor;

/// A tensor of repeatable numbers in [-1, 1): speed depends on the data, so never zeros.
#[expect(clippy::cast_precision_loss, reason = "24 bits fit f32")]
fn random<T: Element<Host = f32>, const R: usize>(shape: [usize; R], seed: u64) -> Tensor<T, R> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let data = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_host(shape, data)
}

/// Times `body`, which handles `elements` elements (or multiply-adds) a call.
fn bench(criterion: &mut Criterion, name: &str, elements: usize, mut body: impl FnMut()) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    group.throughput(Throughput::Elements(elements as u64));
    group.bench_function("cpu", |bencher| bencher.iter(&mut body));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for run in [
        attention::run,
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
        random_normal::run,
        rmsnorm::run,
        timestep_embedding::run,
        to_rgb8::run,
        upsample::run,
    ] {
        run(&mut criterion);
    }
    criterion.final_summary();
}
