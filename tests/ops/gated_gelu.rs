//! `gated_gelu` against f64.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gated_gelu::gated_gelu;

use crate::common::F32;
use crate::common::assert_close;
use crate::gelu;
use crate::narrow;
use crate::random;

#[test]
fn the_first_half_is_activated() {
    let (seq, width) = (7, 33);
    let mut hidden: Tensor<Act, 2> = random([seq, 2 * width], 1);
    hidden.host_mut().iter_mut().for_each(|value| *value *= 4.0);
    let mut out = Tensor::zeros([seq, width]);
    gated_gelu(out.matrix_mut(), hidden.matrix()).unwrap();
    let expected: Vec<f32> = (0..seq * width)
        .map(|index| {
            let row = hidden.matrix().row(index / width);
            let column = index % width;
            narrow(gelu(f64::from(row[column])) * f64::from(row[width + column]))
        })
        .collect();
    assert_close("gated_gelu", out.host(), &expected, F32);
}
