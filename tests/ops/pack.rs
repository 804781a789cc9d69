//! `pack` and `unpack` on a picture small enough to write down.

use flux_rt::Error;
use flux_rt::device::Tensor;
use flux_rt::ops::pack::pack;
use flux_rt::ops::pack::packed_shape;
use flux_rt::ops::pack::unpack;

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
    let mut back = Tensor::zeros([2, 2, 4]);
    unpack(&mut back, &packed).unwrap();
    assert_eq!(back.host(), latents.host());
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
        unpack(&mut Tensor::zeros([1, 2, 4]), &packed),
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
        let mut back = Tensor::zeros(shape);
        unpack(&mut back, &packed).unwrap();
        assert_eq!(back.host(), noise, "{folder}");
    }
}
