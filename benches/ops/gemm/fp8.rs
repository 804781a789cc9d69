//! `gemm` over e4m3: the linear layers of FLUX.1-dev's blocks; what they read lies side by side as in
//! bf16.

use std::ops::Range;

use flux_rt::device::Act;
use flux_rt::device::Input;
use flux_rt::device::Output;
use flux_rt::device::Quantized;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::ops::ModulationVector;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Segment;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm::gemm;

use super::JOINT;
use super::MODULATION;
use crate::Bench;
use crate::Work;

const HIDDEN: usize = 3072;
const BOTH: usize = 15_360;

/// Reads the columns of its input, [S, 15360], and writes [S, 3072] with residual and gate; or, of
/// the MLP's first layer, the other way round with GELU.
struct Case {
    name: &'static str,
    rows: [usize; 2],
    columns: Range<usize>,
    up: bool,
}

pub(crate) fn run(bench: &mut Bench) {
    let cpu = [Case { name: "128x3072x3072 e4m3", rows: [128, 0], columns: 0..HIDDEN, up: false }];
    let mlp = HIDDEN..BOTH;
    let cuda = [
        Case { name: "attn_out 4608x3072x3072 e4m3", rows: JOINT, columns: 0..HIDDEN, up: false },
        Case { name: "mlp_up 4608x12288x3072 e4m3", rows: JOINT, columns: mlp.clone(), up: true },
        Case { name: "mlp_down 4608x3072x12288 e4m3", rows: JOINT, columns: mlp, up: false },
        Case { name: "linear2 4608x3072x15360 e4m3", rows: [4608, 0], columns: 0..BOTH, up: false },
    ];
    for spec in bench.pick(&cpu[..], &cuda[..]) {
        case(bench, spec);
    }
}

fn case(bench: &mut Bench, spec: &Case) {
    let &Case { name, rows, up, .. } = spec;
    let columns = spec.columns.clone();
    let m: usize = rows.iter().sum();
    let [n, k] = if up { [columns.len(), HIDDEN] } else { [HIDDEN, columns.len()] };
    let segments = rows.iter().filter(|&&rows| rows > 0).count();
    let work = Work {
        flops: 2 * m * n * k,
        values: if up { 0 } else { 2 * m * n },
        bytes: m * k + segments * n * k + if up { m * n } else { 0 },
        fp8: true,
    };
    bench.case("gemm", name, work, |device| {
        let normed = crate::quantized(device, [m, HIDDEN], Scaling::Row, 1)?;
        let mut wide: Quantized = crate::quantized(device, [m, BOTH], Scaling::Units, 2)?;
        let residual: Tensor<Act, 2> = crate::random(device, [m, HIDDEN], 3)?;
        let mut out = Tensor::<Act, 2>::empty(device, [m, HIDDEN])?;
        let linear = |seed| {
            let weight = Weight::Fp8(crate::quantized(device, [n, k], Scaling::Row, seed)?);
            Ok(Linear { weight, bias: Some(crate::random(device, [n], seed + 1)?) })
        };
        let linears = [linear(4)?, linear(6)?];
        let table = crate::random(device, [28, MODULATION], 8)?;
        let step = crate::step(device, 13)?;
        let units = crate::units(device, n)?;
        Ok(move || {
            let gate = |column| ModulationVector { table: &table, step: &step, column };
            let all = [0..rows[0], rows[0]..m];
            let segments = [0, 1].map(|index| Segment {
                rows: all[index].clone(),
                linear: &linears[index],
                gate: (!up).then(|| gate(index * n)),
            });
            let segments = &segments[..if rows[1] == 0 { 1 } else { 2 }];
            if up {
                let out = wide.view_mut().columns(columns.clone());
                let out = Output::Fp8 { out, units: Some(&units), staging: None };
                gemm(out, Input::from(normed.view()), None, segments, Activation::GeluTanh)
            } else {
                let a = Input::from(wide.view().columns(columns.clone()));
                gemm(out.matrix_mut(), a, Some(residual.matrix()), segments, Activation::None)
            }
        })
    });
}
