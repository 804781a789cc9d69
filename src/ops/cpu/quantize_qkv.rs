//! Oracle of `quantize_qkv`.

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::QuantizedQkv;
use crate::device::Tensor;
use crate::device::e4m3;
use crate::device::quantized_qkv::key_position;
use crate::ops::cpu::for_each_row;

/// `out` from `qkv [S, 3, H, Dh]`, with the scales of q and k that it has.
pub(crate) fn quantize_qkv(out: &mut QuantizedQkv, qkv: &Tensor<Act, 4>, v_units: &Tensor<f32, 1>) {
    let [seq, _, heads, head_dim] = qkv.shape();
    let width = heads * head_dim;
    let x = Matrix::<Act>::new(qkv.host(), seq, 3 * width);
    let mut qk = MatrixMut::<u8>::new(out.qk.host_mut(), seq, 2 * width);
    let inverse = out.qk_scales.map(|scale| 1.0 / scale);
    for_each_row(&mut qk, |row, values| {
        for (column, value) in values.iter_mut().enumerate() {
            *value = e4m3::from_f32(x.row(row)[column] * inverse[column / width]);
        }
    });
    let channel = |channel: usize| (0..seq).map(move |key| x.row(key)[2 * width + channel]);
    let [_, _, padded] = out.v.shape();
    let mut v = MatrixMut::<u8>::new(out.v.host_mut(), width, padded);
    for_each_row(&mut v, |index, values| {
        values.fill(0);
        let unit = v_units.host()[index];
        for (key, value) in channel(index).enumerate() {
            values[key_position(key)] = e4m3::from_f32(value / unit);
        }
    });
}
