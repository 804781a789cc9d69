//! Oracle of `euler_step`.

use half::bf16;

use crate::ops::euler_step::LatentRounding;

pub(in crate::ops) fn euler_step(
    latents: &mut [f32],
    velocity: &[f32],
    dt: f32,
    rounding: LatentRounding,
) {
    for (latent, velocity) in latents.iter_mut().zip(velocity) {
        *latent = match rounding {
            LatentRounding::F32 => *latent + dt * velocity,
            LatentRounding::DiffusersBf16 => round(*latent + round(round(dt) * round(*velocity))),
        };
    }
}

fn round(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}
