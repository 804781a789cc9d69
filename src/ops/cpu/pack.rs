//! Oracle of `pack`.

pub(in crate::ops) fn pack(out: &mut [f32], latents: &[f32], shape: [usize; 3]) {
    for (packed, unpacked) in places(shape) {
        out[packed] = latents[unpacked];
    }
}

pub(in crate::ops) fn unpack(out: &mut [f32], packed: &[f32], shape: [usize; 3]) {
    for (packed_place, unpacked) in places(shape) {
        out[unpacked] = packed[packed_place];
    }
}

/// Each element's place in packed and in unpacked order.
fn places([channels, height, width]: [usize; 3]) -> impl Iterator<Item = (usize, usize)> {
    (0..channels * height * width).map(move |unpacked| {
        let (column, row) = (unpacked % width, unpacked / width % height);
        let channel = unpacked / width / height;
        let token = row / 2 * (width / 2) + column / 2;
        (token * 4 * channels + 4 * channel + 2 * (row % 2) + column % 2, unpacked)
    })
}
