//! The VAE against diffusers, stage by stage.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::files::File;
use flux_rt::model::config::VaeConfig;
use flux_rt::model::vae;
use flux_rt::model::vae::blocks;
use flux_rt::model::vae::decoder;
use flux_rt::model::vae::encoder;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use flux_rt::model::weights::vae::VaeWeights;
use flux_rt::ops::conv2d::Stride;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::pack::unpack;
use flux_rt::pipeline::tiling::Tiling;
use flux_rt::pipeline::tiling::decode_tiled;

use crate::Expected;
use crate::FOLDERS;
use crate::checkpoint;
use crate::common::F32;
use crate::common::Tolerance;
use crate::common::assert_close;
use crate::golden;

/// A whole decoder or encoder in f32.
const WHOLE: Tolerance = Tolerance { atol: 2e-4, rtol: 1e-3, l2: 1e-4 };
/// Height and width of the fixture's latents.
const LATENT: [usize; 2] = [4, 3];

fn load(pipeline: &str) -> VaeWeights {
    let config = File::Disk(golden::path(&format!("{pipeline}/vae/config.json")));
    load_as(pipeline, &VaeConfig::read(&config).unwrap())
}

fn load_as(pipeline: &str, config: &VaeConfig) -> VaeWeights {
    let checkpoint = checkpoint(pipeline, "vae");
    let mut reader = Reader::new(&checkpoint, Component::Vae).unwrap();
    VaeWeights::load(&mut reader, config, WeightDtype::F32).unwrap()
}

/// Checks a channels-last tensor against an expected `[C, H, W]`.
fn check(
    expected: &Expected,
    what: &str,
    name: &str,
    actual: &Tensor<Act, 3>,
    tolerance: Tolerance,
) {
    let [height, width, channels] = actual.shape();
    let expected: Tensor<Act, 3> = expected.image(name, [channels, height, width]);
    assert_close(&format!("{what} {name}"), actual.host(), expected.host(), tolerance);
}

#[test]
fn decoder_stage_by_stage() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline);
        let weights = load(pipeline);
        let (groups, decoder) = (weights.config.norm_num_groups, &weights.decoder);
        let z =
            expected.image("vae.decode.z", [weights.config.latent_channels, LATENT[0], LATENT[1]]);
        let check = |name: &str, actual: &Tensor<Act, 3>| {
            check(&expected, pipeline, &format!("vae.decode.{name}"), actual, F32);
        };
        let stage = |name: &str, channels: usize, scale: usize| -> Tensor<Act, 3> {
            let shape = [channels, scale * LATENT[0], scale * LATENT[1]];
            expected.image(&format!("vae.decode.{name}"), shape)
        };
        let widest = weights.config.block_out_channels[3];
        check("conv_in", &blocks::conv(&z, None, &decoder.conv_in, Stride::One).unwrap());
        let input = stage("conv_in", widest, 1);
        check("mid.resnet.0", &blocks::resnet(&input, &decoder.mid.resnet0, groups).unwrap());
        let input = stage("mid.resnet.0", widest, 1);
        let attention = decoder.mid.attention.as_ref().unwrap();
        check("mid.attention", &blocks::mid_attention(input, attention, groups).unwrap());
        let input = stage("mid.attention", widest, 1);
        check("mid.resnet.1", &blocks::resnet(&input, &decoder.mid.resnet1, groups).unwrap());
        let mut input = stage("mid.resnet.1", widest, 1);
        for (index, level) in decoder.levels.iter().enumerate() {
            let output = decoder::up_level(input, level, groups).unwrap();
            check(&format!("up.{index}"), &output);
            let channels = weights.config.block_out_channels[3 - index];
            input = stage(&format!("up.{index}"), channels, 2usize.pow(index.min(2) as u32 + 1));
        }
        check(
            "conv_norm_out",
            &blocks::norm(&input, &decoder.norm_out, groups, Activation::None).unwrap(),
        );
    }
}

#[test]
fn encoder_level_by_level() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline);
        let weights = load(pipeline);
        let (groups, encoder) = (weights.config.norm_num_groups, &weights.encoder);
        let image = expected.image("vae.encode.image", [3, 8 * LATENT[0], 8 * LATENT[1]]);
        let mut x = blocks::conv(&image, None, &encoder.conv_in, Stride::One).unwrap();
        for (index, level) in encoder.levels.iter().enumerate() {
            x = encoder::down_level(x, level, groups).unwrap();
            check(&expected, pipeline, &format!("vae.encode.down.{index}"), &x, F32);
        }
        x = blocks::mid_block(&x, &encoder.mid, groups).unwrap();
        check(&expected, pipeline, "vae.encode.mid", &x, F32);
    }
}

#[test]
fn whole_decoder_and_encoder() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline);
        let weights = load(pipeline);
        let channels = weights.config.latent_channels;
        let z = expected.image("vae.decode.z", [channels, LATENT[0], LATENT[1]]);
        let image = vae::decode(&weights, &z).unwrap();
        check(&expected, pipeline, "vae.decode.image", &image, WHOLE);

        let image = expected.image("vae.encode.image", [3, 8 * LATENT[0], 8 * LATENT[1]]);
        let moments = vae::encode(&weights, &image).unwrap();
        let [height, width, both] = moments.shape();
        assert_eq!([height, width, both], [LATENT[0], LATENT[1], 2 * channels]);
        for (index, name) in ["mean", "logvar"].into_iter().enumerate() {
            let half: Vec<f32> = moments
                .host()
                .chunks_exact(both)
                .flat_map(|pixel| pixel[index * channels..][..channels].to_vec())
                .collect();
            let half = Tensor::from_host([height, width, channels], half);
            check(&expected, pipeline, &format!("vae.encode.{name}"), &half, WHOLE);
        }
    }
}

#[test]
fn tiles_are_those_of_diffusers() {
    let expected = Expected(golden::tensors("tiling.safetensors"));
    let config = VaeConfig { sample_size: 64, ..load("schnell").config };
    let weights = load_as("schnell", &config);
    let tiling = Tiling::new(&config).unwrap();
    assert_eq!(tiling.side(), 8);
    for (name, [height, width]) in [("both", [13, 9]), ("wide", [4, 15])] {
        let z = expected.image(&format!("{name}.z"), [config.latent_channels, height, width]);
        let image = decode_tiled(&weights, &z, tiling).unwrap();
        check(&expected, "tiles", &format!("{name}.image"), &image, WHOLE);
        let whole = vae::decode(&weights, &z).unwrap();
        assert_ne!(image.host(), whole.host(), "{name}: the picture is larger than a tile");
    }
}

#[test]
fn what_fits_one_tile_is_decoded_as_ever() {
    let weights = load("schnell");
    let expected = Expected::of("schnell");
    let z = expected.image("vae.decode.z", [weights.config.latent_channels, LATENT[0], LATENT[1]]);
    for sample_size in [32, 1024] {
        let config = VaeConfig { sample_size, ..weights.config.clone() };
        let tiles = decode_tiled(&weights, &z, Tiling::new(&config).unwrap()).unwrap();
        assert_eq!(tiles.host(), vae::decode(&weights, &z).unwrap().host(), "{sample_size}");
    }
    let config = VaeConfig { sample_size: 1000, ..weights.config };
    let error = Tiling::new(&config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "vae-tiling: expected a VAE whose sample_size is a multiple of 32, found 1000"
    );
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn latents_of_a_whole_run_become_the_decoders_input() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline);
        let config = load(pipeline).config;
        let run = &golden::json(&format!("{pipeline}/expected.json"))["run"];
        let [height, width] =
            ["height", "width"].map(|side| run[side].as_u64().unwrap() as usize / 8);
        let last = run["steps"].as_u64().unwrap() - 1;
        let latents: Tensor<Act, 2> = expected.matrix(&format!("pipeline.latents.{last}"), 64);
        let mut z = Tensor::zeros([height, width, config.latent_channels]);
        unpack(&mut z, &latents, config.scaling_factor, config.shift_factor).unwrap();
        check(&expected, pipeline, "pipeline.z", &z, F32);
    }
}
