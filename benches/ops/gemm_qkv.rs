//! `gemm_qkv`: q, k, v of a double block, and of a single block with its MLP; on the CPU D 1536 and
//! 128 tokens.

use flux_rt::device::Act;
use flux_rt::device::Output;
use flux_rt::device::Quantized;
use flux_rt::device::QuantizedQkv;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm_qkv::QkvOutput;
use flux_rt::ops::gemm_qkv::QkvSegment;
use flux_rt::ops::gemm_qkv::gemm_qkv;

use crate::Bench;
use crate::Work;

const HEAD_DIM: usize = 128;

/// Name, rows of the segments (the second may have none), heads, and width of the MLP.
type Case = (&'static str, [usize; 2], usize, usize);

pub(crate) fn run(bench: &mut Bench) {
    let cuda: &[Case] = &[
        ("double 4608x9216x3072 two", [512, 4096], 24, 0),
        ("single 4608x21504x3072 mlp", [4608, 0], 24, 12_288),
    ];
    for &spec in bench.pick(&[("128x4608x1536", [128, 0], 12, 0)][..], cuda) {
        case(bench, spec);
    }
    let cuda: &[Case] = &[
        ("double 4608x9216x3072 e4m3", [512, 4096], 24, 0),
        ("single 4608x21504x3072 e4m3", [4608, 0], 24, 12_288),
    ];
    for &spec in bench.pick(&[("128x4608x1536 e4m3", [128, 0], 12, 0)][..], cuda) {
        quantised(bench, spec);
    }
}

/// From e4m3 to e4m3.
fn quantised(bench: &mut Bench, (name, rows, heads, mlp_width): Case) {
    let seq: usize = rows.iter().sum();
    let hidden = heads * HEAD_DIM;
    let n = 3 * hidden + mlp_width;
    let segments = rows.iter().filter(|&&rows| rows > 0).count();
    let bytes = seq * hidden + segments * n * hidden + seq * n;
    let work = Work { flops: 2 * seq * n * hidden, bytes, fp8: true, ..Work::default() };
    bench.case("gemm_qkv", name, work, |device| {
        let a = crate::quantized(device, [seq, hidden], Scaling::Row, 1)?;
        let linear = |seed| {
            let weight = Weight::Fp8(crate::quantized(device, [n, hidden], Scaling::Row, seed)?);
            Ok(Linear { weight, bias: Some(crate::random(device, [n], seed + 1)?) })
        };
        let linears = [linear(2)?, linear(4)?];
        let norm = crate::random(device, [HEAD_DIM], 6)?;
        let rope = crate::random(device, [seq, HEAD_DIM / 2, 2], 7)?;
        let mut staging = Tensor::<Act, 4>::empty(device, [seq, 3, heads, HEAD_DIM])?;
        let mut qkv = QuantizedQkv::empty(device, [seq, heads, HEAD_DIM])?;
        let mut joint = Quantized::empty(device, [seq, hidden + mlp_width], Scaling::Units)?;
        let (v_units, units) = (crate::units(device, hidden)?, crate::units(device, mlp_width)?);
        Ok(move || {
            let all = [0..rows[0], rows[0]..seq];
            let segments = [0, 1].map(|index| QkvSegment {
                rows: all[index].clone(),
                linear: &linears[index],
                q_norm: &norm,
                k_norm: &norm,
            });
            let segments = &segments[..if rows[1] == 0 { 1 } else { 2 }];
            let mlp = joint.view_mut().columns(hidden..hidden + mlp_width);
            let mlp = Output::Fp8 { out: mlp, units: Some(&units), staging: None };
            let mlp = (mlp_width > 0).then_some(mlp);
            let out = QkvOutput::Fp8 {
                out: &mut qkv,
                staging: &mut staging,
                bounds: [12.0; 2],
                v_units: &v_units,
            };
            gemm_qkv(out, mlp, a.view(), segments, &rope)
        })
    });
}

fn case(bench: &mut Bench, (name, rows, heads, mlp_width): Case) {
    let seq: usize = rows.iter().sum();
    let hidden = heads * HEAD_DIM;
    let n = 3 * hidden + mlp_width;
    let segments = rows.iter().filter(|&&rows| rows > 0).count();
    let work = Work {
        flops: 2 * seq * n * hidden,
        values: seq * hidden + segments * n * hidden + seq * n,
        bytes: 4 * (segments * (n + 2 * HEAD_DIM) + seq * HEAD_DIM),
        ..Work::default()
    };
    bench.case("gemm_qkv", name, work, |device| {
        let a: Tensor<Act, 2> = crate::random(device, [seq, hidden], 1)?;
        let linear = |seed| {
            let bias = Some(crate::random(device, [n], seed)?);
            Ok(Linear { weight: crate::weight(device, [n, hidden], seed + 1)?, bias })
        };
        let first = linear(2)?;
        let second = (rows[1] > 0).then(|| linear(4)).transpose()?;
        let norm = crate::random(device, [HEAD_DIM], 6)?;
        let rope = crate::random(device, [seq, HEAD_DIM / 2, 2], 7)?;
        let mut qkv = Tensor::empty(device, [seq, 3, heads, HEAD_DIM])?;
        // As in a block: the MLP's part of rows that begin with the attention's output.
        let mut joint = Tensor::<Act, 2>::empty(device, [seq, hidden + mlp_width])?;
        Ok(move || {
            let segment = |rows, linear| QkvSegment { rows, linear, q_norm: &norm, k_norm: &norm };
            let mut segments = vec![segment(0..rows[0], &first)];
            segments.extend(second.as_ref().map(|linear| segment(rows[0]..seq, linear)));
            let mlp = joint.matrix_mut().columns(hidden..hidden + mlp_width);
            let mlp = (mlp_width > 0).then_some(mlp);
            gemm_qkv(&mut qkv, mlp.map(Into::into), a.matrix(), &segments, &rope)
        })
    });
}
