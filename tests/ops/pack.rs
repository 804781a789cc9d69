//! `pack` and `unpack` on a picture small enough to write down.

use flux_rt::Error;
use flux_rt::device::Tensor;
use flux_rt::ops::pack::pack;
use flux_rt::ops::pack::packed_shape;
use flux_rt::ops::pack::unpack;

use crate::common::gpu;
use crate::golden;

#[test]
fn a_token_is_two_by_two_pixels_of_every_channel() {
    // Two channels of 2 x 4: 0..8 and 10..18.
    let pixels = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17];
    let latents = Tensor::from_host([2, 2, 4], pixels.map(|value: u8| f32::from(value)).to_vec());
    let mut packed = Tensor::zeros([2, 8]);
    pack(&mut packed, &latents).unwrap();
    let expected = [0, 1, 4, 5, 10, 11, 14, 15, 2, 3, 6, 7, 12, 13, 16, 17];
    assert_eq!(packed.host(), expected.map(|value: u8| f32::from(value)));
    // Channels last, halved and moved by one.
    let mut back = Tensor::zeros([2, 4, 2]);
    unpack(&mut back, &packed, 2.0, 1.0).unwrap();
    let expected = [0, 10, 1, 11, 2, 12, 3, 13, 4, 14, 5, 15, 6, 16, 7, 17];
    assert_eq!(back.host(), expected.map(|value: u8| f32::from(value) / 2.0 + 1.0));
}

#[test]
fn tokens_run_along_rows_first() {
    let mut latents = Tensor::<f32, 3>::zeros([16, 6, 10]);
    // Channel 3, row 4, column 7: token (2, 3), channel 4 * 3 + 2 * 0 + 1.
    latents.host_mut()[3 * 60 + 4 * 10 + 7] = 1.0;
    let mut packed = Tensor::zeros(packed_shape(latents.shape()).unwrap());
    pack(&mut packed, &latents).unwrap();
    assert_eq!(packed.shape(), [15, 64]);
    assert_eq!(packed.host().iter().position(|&value| value == 1.0), Some((2 * 5 + 3) * 64 + 13));
}

#[test]
fn wrong_shapes_are_refused() {
    let mut packed = Tensor::zeros([2, 8]);
    let odd = pack(&mut packed, &Tensor::zeros([2, 3, 4])).unwrap_err();
    assert_eq!(
        odd.to_string(),
        "pack: latents has shape [2, 3, 4], expected an even height and width"
    );
    assert!(matches!(
        pack(&mut packed, &Tensor::zeros([2, 4, 4])),
        Err(Error::Shape { tensor: "out", .. })
    ));
    assert!(matches!(
        unpack(&mut Tensor::zeros([2, 4, 3]), &packed, 1.0, 0.0),
        Err(Error::Shape { tensor: "packed", .. })
    ));
}

#[test]
fn goldens_of_both_pipelines() {
    for folder in ["dev", "schnell"] {
        let goldens = golden::tensors(&format!("{folder}/expected.safetensors"));
        let run = &golden::json(&format!("{folder}/expected.json"))["run"];
        let latent = |side: &str| usize::try_from(run[side].as_u64().unwrap()).unwrap() / 8;
        let shape = [16, latent("height"), latent("width")];
        let noise = golden::narrow(&goldens["pipeline.noise"]);
        let mut packed = Tensor::zeros(packed_shape(shape).unwrap());
        pack(&mut packed, &Tensor::from_host(shape, noise.clone())).unwrap();
        assert_eq!(packed.host(), golden::narrow(&goldens["pipeline.packed"]), "{folder}");
        let [channels, height, width] = shape;
        let mut back = Tensor::zeros([height, width, channels]);
        unpack(&mut back, &packed, 1.0, 0.0).unwrap();
        let planar = |index: usize| index % channels * height * width + index / channels;
        let expected: Vec<f32> = (0..noise.len()).map(|index| noise[planar(index)]).collect();
        assert_eq!(back.host(), expected, "{folder}");
    }
}

#[test]
fn cuda_agrees_exactly_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for shape in [[1, 2, 2], [3, 2, 4], [5, 6, 10], [16, 32, 34], [16, 128, 128]] {
        let [channels, height, width] = shape;
        gpu.agrees_exactly(&format!("pack {shape:?}"), |device| {
            // f32 numbers, which packing rounds.
            let latents = gpu::f32s(device, shape, 1);
            let mut packed = Tensor::empty(device, packed_shape(shape).unwrap()).unwrap();
            pack(&mut packed, &latents).unwrap();
            gpu::host(packed)
        });
        for [scaling, shift] in [[1.0, 0.0], [0.3611, 0.1159]] {
            gpu.agrees_exactly(&format!("unpack {shape:?}, {scaling}"), |device| {
                let packed = gpu::act(device, packed_shape(shape).unwrap(), 2);
                let mut out = Tensor::empty(device, [height, width, channels]).unwrap();
                unpack(&mut out, &packed, scaling, shift).unwrap();
                gpu::host(out)
            });
        }
    }
}
