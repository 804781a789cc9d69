//! Oracle of `pack`.

pub(in crate::ops) fn pack(out: &mut [f32], latents: &[f32], shape: [usize; 3]) {
    for place in places(shape) {
        out[place.packed] = latents[place.planar];
    }
}

pub(in crate::ops) fn unpack(
    out: &mut [f32],
    packed: &[f32],
    shape: [usize; 3],
    value: impl Fn(f32) -> f32,
) {
    for place in places(shape) {
        out[place.channels_last] = value(packed[place.packed]);
    }
}

/// Where one element lies in each of the three orders.
struct Place {
    packed: usize,
    planar: usize,
    channels_last: usize,
}

fn places([channels, height, width]: [usize; 3]) -> impl Iterator<Item = Place> {
    (0..channels * height * width).map(move |planar| {
        let (column, row) = (planar % width, planar / width % height);
        let channel = planar / width / height;
        let token = row / 2 * (width / 2) + column / 2;
        Place {
            packed: token * 4 * channels + 4 * channel + 2 * (row % 2) + column % 2,
            planar,
            channels_last: (row * width + column) * channels + channel,
        }
    })
}
