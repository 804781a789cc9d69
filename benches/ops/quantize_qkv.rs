//! `quantize_qkv`: of a block.

use flux_rt::device::Act;
use flux_rt::device::QuantizedQkv;
use flux_rt::device::Tensor;
use flux_rt::ops::quantize_qkv::quantize_qkv;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let cuda: &[_] = &[("4608x24x128", [4608, 24, 128])];
    let cpu: &[_] = &[("1024x4x128", [1024, 4, 128])];
    for &(name, [seq, heads, dim]) in bench.pick(cpu, cuda) {
        let values = 3 * seq * heads * dim;
        let work = Work { values, bytes: values, ..Work::default() };
        bench.case("quantize_qkv", name, work, |device| {
            let qkv: Tensor<Act, 4> = crate::random(device, [seq, 3, heads, dim], 1)?;
            let mut out = QuantizedQkv::empty(device, [seq, heads, dim])?;
            let units = crate::units(device, heads * dim)?;
            Ok(move || quantize_qkv(&mut out, &qkv, [1.0; 2], &units))
        });
    }
}
