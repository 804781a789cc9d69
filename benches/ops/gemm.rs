//! `gemm`: the linear layers of FLUX.1-dev, T5-XXL and the VAE that take time; on the CPU a block's
//! output projection with 128 tokens.
//!
//! Rows of a double block are 512 of text and 4,096 of image, with weights of their own. Attention
//! output and MLP hidden layer lie side by side in rows of 15,360, as `model/flux` has them.

mod fp8;

use std::ops::Range;

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::ModulationVector;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Segment;
use flux_rt::ops::gemm::gemm;

use crate::Bench;
use crate::Work;

/// Which columns of rows of which width.
type Columns = (usize, Range<usize>);

struct Case {
    name: &'static str,
    /// Rows of the segments; the second may have none.
    rows: [usize; 2],
    a: Columns,
    out: Columns,
    bias: bool,
    residual: bool,
    gate: bool,
    activation: Activation,
}

/// A single segment with a bias and no more.
const fn plain(name: &'static str, m: usize, n: usize, k: usize) -> Case {
    Case {
        name,
        rows: [m, 0],
        a: (k, 0..k),
        out: (n, 0..n),
        bias: true,
        residual: false,
        gate: false,
        activation: Activation::None,
    }
}

/// As [`plain`], with a residual and a gate, over the joint sequence.
const fn gated(name: &'static str, rows: [usize; 2], n: usize, a: Columns) -> Case {
    Case { rows, a, residual: true, gate: true, ..plain(name, 0, n, 0) }
}

/// As [`plain`], without the bias that T5 has nowhere.
const fn t5(name: &'static str, n: usize, k: usize, residual: bool) -> Case {
    Case { bias: false, residual, ..plain(name, 512, n, k) }
}

/// Text and image.
const JOINT: [usize; 2] = [512, 4096];
/// Shift, scale and gate vectors of all blocks, and the final layer's two.
const MODULATION: usize = (12 * 19 + 3 * 38 + 2) * 3072;

pub(crate) fn run(bench: &mut Bench) {
    let cpu =
        [Case { activation: Activation::GeluTanh, ..plain("128x3072x3072", 128, 3072, 3072) }];
    let mlp = 3072..15_360;
    let mlp_up = Case {
        rows: JOINT,
        out: (15_360, mlp.clone()),
        activation: Activation::GeluTanh,
        ..plain("mlp_up 4608x12288x3072 two gelu", 0, 0, 3072)
    };
    let cuda = [
        gated("attn_out 4608x3072x3072 two residual gate", JOINT, 3072, (15_360, 0..3072)),
        mlp_up,
        gated("mlp_down 4608x3072x12288 two residual gate", JOINT, 3072, (15_360, mlp)),
        gated("linear2 4608x3072x15360 residual gate", [4608, 0], 3072, (15_360, 0..15_360)),
        plain("modulation 28x1056768x3072", 28, MODULATION, 3072),
        t5("t5_qkv 512x12288x4096", 12_288, 4096, false),
        t5("t5_mlp_up 512x20480x4096", 20_480, 4096, false),
        t5("t5_mlp_down 512x4096x10240 residual", 4096, 10_240, true),
        plain("vae_qkv 16384x1536x512", 16_384, 1536, 512),
    ];
    for spec in bench.pick(&cpu[..], &cuda[..]) {
        case(bench, spec);
    }
    fp8::run(bench);
}

fn work(spec: &Case, n: usize, k: usize) -> Work {
    let m: usize = spec.rows.iter().sum();
    let segments = spec.rows.iter().filter(|&&rows| rows > 0).count();
    let vectors = segments * n;
    Work {
        flops: 2 * m * n * k,
        values: m * k
            + segments * n * k
            + m * n * if spec.residual { 2 } else { 1 }
            + if spec.gate { vectors } else { 0 },
        bytes: if spec.bias { 4 * vectors } else { 0 },
        ..Work::default()
    }
}

fn case(bench: &mut Bench, spec: &Case) {
    let &Case { name, rows, activation, .. } = spec;
    let ((a_width, a_columns), (out_width, out_columns)) = (spec.a.clone(), spec.out.clone());
    let (m, n, k) = (rows.iter().sum(), out_columns.len(), a_columns.len());
    bench.case("gemm", name, work(spec, n, k), |device| {
        let a: Tensor<Act, 2> = crate::random(device, [m, a_width], 1)?;
        let residual: Option<Tensor<Act, 2>> =
            spec.residual.then(|| crate::random(device, [m, n], 2)).transpose()?;
        let first = linear(device, spec, [n, k], 3)?;
        let second = (rows[1] > 0).then(|| linear(device, spec, [n, k], 5)).transpose()?;
        // The table of all steps, of which a gate reads one row; without gates nothing does.
        let columns = if spec.gate { MODULATION } else { 8 };
        let table = crate::random(device, [28, columns], 7)?;
        let step = crate::step(device, 13)?;
        let gated = spec.gate;
        let mut out = Tensor::<Act, 2>::empty(device, [m, out_width])?;
        Ok(move || {
            let gate = |column| ModulationVector { table: &table, step: &step, column };
            let gates = [0, n].map(|column| gated.then(|| gate(column)));
            let mut segments = vec![Segment { rows: 0..rows[0], linear: &first, gate: gates[0] }];
            segments.extend(second.as_ref().map(|linear| Segment {
                rows: rows[0]..m,
                linear,
                gate: gates[1],
            }));
            gemm(
                out.matrix_mut().columns(out_columns.clone()),
                a.matrix().columns(a_columns.clone()),
                residual.as_ref().map(Tensor::matrix),
                &segments,
                activation,
            )
        })
    });
}

fn linear(device: &Device, spec: &Case, shape: [usize; 2], seed: u64) -> flux_rt::Result<Linear> {
    let bias = spec.bias.then(|| crate::random(device, [shape[0]], seed)).transpose()?;
    Ok(Linear { weight: crate::weight(device, shape, seed + 1)?, bias })
}
