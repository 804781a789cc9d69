//! `noise` against `torch.randn`: digests of whole tensors for the CPU generators (PyTorch 2.11, a
//! machine with AVX2), known values from an H100 for the CUDA generator.

use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::noise::Grid;
use flux_rt::ops::noise::NoiseDtype;
use flux_rt::ops::noise::NoiseSource;
use flux_rt::ops::noise::noise;
use sha2::Digest;
use sha2::Sha256;

use crate::common::Tolerance;
use crate::common::gpu;
use crate::golden;

const F32: NoiseSource = NoiseSource::TorchCpu { dtype: NoiseDtype::F32 };
const BF16: NoiseSource = NoiseSource::TorchCpu { dtype: NoiseDtype::Bf16 };
const LEGACY: NoiseSource = NoiseSource::TorchCpuLegacy;
const LATENTS_1024: [usize; 4] = [1, 16, 128, 128];

fn draw(shape: [usize; 4], source: NoiseSource, seed: u64) -> Vec<f32> {
    let mut out = Tensor::zeros(shape);
    noise(&mut out, source, seed).unwrap();
    out.host().to_vec()
}

/// SHA-256 over the values as little-endian f32.
fn digest(values: &[f32]) -> String {
    let mut hasher = Sha256::new();
    for value in values {
        hasher.update(value.to_le_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cuda(grid: Grid, dtype: NoiseDtype) -> NoiseSource {
    NoiseSource::TorchCuda { grid, dtype }
}

#[test]
fn cpu_generators_repeat_torch_bit_for_bit() {
    let wide_seed = (7 << 32) + 1234;
    for (shape, source, seed, expected) in [
        (LATENTS_1024, F32, 0, "dce02e02da56c18c29a262a316bf45fbfe564688cdb52f255f223aefdadfa3d5"),
        (LATENTS_1024, F32, 42, "9d775f7135ddb2c8e138af1eeef8cdc1aeb25afeba22820c28e98f22794622f7"),
        (
            LATENTS_1024,
            F32,
            wide_seed,
            "90ef0f0547d0025d330d86c7a4df29db98f6949deed469dbcbfb6b8cfef833a0",
        ),
        (LATENTS_1024, BF16, 0, "766eb3452b247c56a2747617229980bfe96326c229eaca8233f8c6fa248c1deb"),
        (
            LATENTS_1024,
            BF16,
            42,
            "5fa89eef025d71d592694541b8ae2e27e4832beb61ff681be023d33008257d2c",
        ),
        (
            LATENTS_1024,
            LEGACY,
            0,
            "39c9d20cbea0fe843d8e6ac772da6d2d67475a25722f628946cc3e6cd76bd64e",
        ),
        (
            LATENTS_1024,
            LEGACY,
            42,
            "a42198b70be0637ab5d67a97a9989f79bb58fe7800ac273e15ad3f20d20cc146",
        ),
        (
            LATENTS_1024,
            LEGACY,
            wide_seed,
            "45af04050b43a9625b17c78d879bb609fdc001e3564e99d887cecbd71a058262",
        ),
        // A batch is one draw.
        (
            [2, 16, 6, 10],
            F32,
            42,
            "eb6d226a1eff4e4b46837048116cab855f6f2d2b7f7441d118a4bfd8a8a97c15",
        ),
    ] {
        assert_eq!(
            digest(&draw(shape, source, seed)),
            expected,
            "{source:?} {shape:?} seed {seed}"
        );
    }
}

#[test]
fn small_and_ragged_tensors_repeat_torch_too() {
    for (shape, source, seed, expected) in [
        // Fewer than 16: one by one, in f64, the same for every dtype.
        ([1, 1, 1, 5], F32, 0, "210d4d6ce714b81456f146a6465cfc9dc80bb7bc33efdb12c6bf76d9c30b5431"),
        ([1, 1, 1, 5], BF16, 0, "55502e4eaaab88c72c64e88c1015dc11012dfb5f933f2e5203cdc0b7a1eaa2d5"),
        (
            [1, 1, 1, 5],
            LEGACY,
            0,
            "55502e4eaaab88c72c64e88c1015dc11012dfb5f933f2e5203cdc0b7a1eaa2d5",
        ),
        ([1, 1, 3, 5], F32, 42, "8db9a5331024e1ef6641fb105e2cef40e44a0fc808368674795ee3b09096fe02"),
        ([1, 1, 4, 4], F32, 0, "7648137a31024642604465428f1598d06f595259ac993612918498d7cde9b70c"),
        (
            [1, 1, 4, 4],
            LEGACY,
            0,
            "7ea89f011d6de89efe034cbfb73af5d41c1497c87ebaaff5b80f348e329e1812",
        ),
        // Not a multiple of 16: the last group moves back.
        ([1, 1, 1, 17], F32, 0, "6d2169852e19b6d18ed57d5a11b37c14723e147e06b2b3868a4e6d8a30017923"),
        ([1, 3, 5, 7], F32, 42, "4f69934ebbb21ca7b1676ed298f46edb64b2c8db44ae6b2a45167f6a5415f1b0"),
        (
            [1, 3, 5, 7],
            LEGACY,
            42,
            "4aa92913c3de97468ed4d78e892308041e0cd692c1bf6a2e289a3a248a13211e",
        ),
    ] {
        assert_eq!(
            digest(&draw(shape, source, seed)),
            expected,
            "{source:?} {shape:?} seed {seed}"
        );
    }
    assert!(draw([1, 0, 4, 4], F32, 0).is_empty());
    assert!(draw([0, 16, 4, 4], cuda(Grid::H100, NoiseDtype::F32), 0).is_empty());
}

#[test]
fn first_values_are_the_known_ones() {
    for (source, seed, expected) in [
        (F32, 0, [-1.125_839_8, -1.152_360_2, -0.250_578_58, -0.433_878_8]),
        (F32, 42, [1.926_915_3, 1.487_284_1, 0.900_717_2, -2.105_521]),
        (BF16, 42, [1.929_687_5, 1.484_375, 0.902_343_75, -2.109_375]),
        (LEGACY, 0, [1.460_937_5, 0.291_015_63, 0.960_937_5, 1.570_312_5]),
        (LEGACY, 42, [-0.808_593_75, -1.531_25, 0.406_25, 0.171_875]),
    ] {
        assert_eq!(draw(LATENTS_1024, source, seed)[..4], expected, "{source:?} seed {seed}");
    }
}

/// Off by so much, after scaling, is an H100's sine.
const FAST_SINE: f32 = 2.6e-6;

/// What an H100 draws for latents of 1024 x 1024: the seed, the first numbers in f32, the last in bf16.
const H100: [(u64, [f32; 8], [f32; 2]); 2] = [
    (
        0,
        [
            -0.924_662_4,
            -0.425_344_23,
            -2.643_845_8,
            0.145_183_86,
            -0.120_866_4,
            -0.579_725_74,
            -0.622_851,
            -0.328_386_9,
        ],
        [1.953_125, -1.398_437_5],
    ),
    (
        42,
        [
            0.194_018_8,
            2.161_373_6,
            -0.172_050_22,
            0.849_060_1,
            -1.924_399,
            0.652_985_5,
            -0.649_440_8,
            -0.817_524_7,
        ],
        [1.023_437_5, 1.820_312_5],
    ),
];

#[test]
fn philox_lies_within_the_cards_fast_sine() {
    for (seed, expected, last) in H100 {
        let f32s = draw(LATENTS_1024, cuda(Grid::H100, NoiseDtype::F32), seed);
        for (actual, expected) in f32s.iter().zip(expected) {
            assert!((actual - expected).abs() <= FAST_SINE, "seed {seed}: {actual}, {expected}");
        }
        // The end of the tensor is known in bf16.
        let bf16s = draw(LATENTS_1024, cuda(Grid::H100, NoiseDtype::Bf16), seed);
        assert_eq!(bf16s[bf16s.len() - 2..], last, "seed {seed}");
    }
}

#[test]
fn a_smaller_card_differs_from_its_first_element_past_the_grid() {
    let source = |blocks| cuda(Grid::of_blocks(blocks).unwrap(), NoiseDtype::F32);
    let (large, small) = (draw(LATENTS_1024, source(1056), 7), draw(LATENTS_1024, source(912), 7));
    let threads = 912 * 256;
    assert_eq!(large[..threads], small[..threads]);
    let equal = large[threads..].iter().zip(&small[threads..]).filter(|(a, b)| a == b).count();
    assert!(equal < 10, "{equal} values are the same");
    // One block of 256 threads: after its four numbers each thread goes to the next counter.
    let mut tiny = draw([1, 1, 8, 256], source(1), 7);
    tiny.sort_by(f32::total_cmp);
    tiny.dedup();
    assert_eq!(tiny.len(), 2048);
}

#[test]
fn numbers_are_normal() {
    for source in [F32, LEGACY, cuda(Grid::of_blocks(100).unwrap(), NoiseDtype::F32)] {
        let values = draw([4, 16, 64, 64], source, 3);
        let count = values.len() as f64;
        let moment = |power| values.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / count;
        // Five standard errors of each moment; the fourth lacks the tail that 8-bit uniforms never
        // reach, 2.84 instead of 3.
        assert!(moment(1).abs() < 0.01, "{source:?}: mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.02, "{source:?}: variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.2, "{source:?}: fourth moment {}", moment(4));
    }
}

#[test]
fn grids_are_read_from_text() {
    assert_eq!("h100".parse::<Grid>().unwrap(), Grid::H100);
    assert_eq!("912".parse::<Grid>().unwrap().blocks(), 912);
    assert_eq!(Grid::of_card(128, 1536).unwrap().blocks(), 768);
    assert_eq!(Grid::of_card(132, 2048).unwrap(), Grid::H100);
    for bad in ["", "0", "-1", "a100", "65537"] {
        let message = bad.parse::<Grid>().unwrap_err().to_string();
        assert!(message.starts_with("--rng-grid: expected "), "{message}");
    }
    assert!(Grid::of_card(usize::MAX, usize::MAX).is_err());
}

#[test]
fn cpu_generators_repeat_the_goldens() {
    let mut compared = 0;
    for (name, expected) in golden::tensors("noise.safetensors") {
        let parts: Vec<&str> = name.split('.').collect();
        let (kind, seed, shape) = (parts[0], parts[1], parts[2]);
        // A generator that draws twice is no way to get noise here.
        if shape.contains("then") || shape.contains("two") {
            continue;
        }
        let source = if kind == "f32" { F32 } else { LEGACY };
        let seed = seed.trim_start_matches("seed").parse().unwrap();
        let mut dims: Vec<usize> = shape.split('x').map(|dim| dim.parse().unwrap()).collect();
        while dims.len() < 4 {
            dims.insert(0, 1);
        }
        let drawn = draw(dims.try_into().unwrap(), source, seed);
        let part = match parts.get(3) {
            Some(&"last") => &drawn[drawn.len() - expected.len()..],
            _ => &drawn[..expected.len()],
        };
        assert_eq!(part, golden::narrow(&expected), "{name}");
        compared += 1;
    }
    assert!(compared >= 50, "{compared}");
}

/// As [`draw`], on either device.
fn draw_on(device: &Device, shape: [usize; 4], source: NoiseSource, seed: u64) -> Vec<f32> {
    let mut out = Tensor::empty(device, shape).unwrap();
    noise(&mut out, source, seed).unwrap();
    gpu::host(out)
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    // The radius is off by 2^-20 of itself at most, the sine by what `FAST_SINE` says.
    let tolerance =
        Tolerance { atol: f64::from(FAST_SINE), rtol: 1.0 / f64::from(1 << 20), l2: 1e-4 };
    for shape in [[1, 1, 1, 1], [1, 1, 1, 255], [1, 1, 3, 257], [2, 16, 34, 30], LATENTS_1024] {
        for blocks in [1, 7, 912, 1056] {
            let source = cuda(Grid::of_blocks(blocks).unwrap(), NoiseDtype::F32);
            let what = format!("{shape:?}, {blocks} blocks");
            let seed = (7 << 32) + 1234;
            gpu.agrees(&what, tolerance, |device| draw_on(device, shape, source, seed));
        }
    }
    // In bf16 some values round to the other side.
    let source = cuda(Grid::H100, NoiseDtype::Bf16);
    let drawn = gpu.run("bf16", |device| draw_on(device, LATENTS_1024, source, 42));
    let oracle = draw(LATENTS_1024, source, 42);
    let off = drawn.iter().zip(&oracle).filter(|(a, b)| a != b).count();
    assert!(off < 300, "{off} of {} differ", drawn.len());
}

#[test]
fn cuda_draws_what_an_h100_draws() {
    let Some(gpu) = gpu::gpu() else { return };
    for (seed, expected, last) in H100 {
        let draw = |dtype| {
            let source = cuda(Grid::H100, dtype);
            gpu.run("noise", |device| draw_on(device, LATENTS_1024, source, seed))
        };
        // The known values are printed with eight digits.
        for (actual, expected) in draw(NoiseDtype::F32).iter().zip(expected) {
            let distance = (actual - expected).abs();
            assert!(distance <= 1.2e-7 * expected.abs(), "seed {seed}: {actual}, {expected}");
        }
        let bf16s = draw(NoiseDtype::Bf16);
        assert_eq!(bf16s[bf16s.len() - 2..], last, "seed {seed}");
    }
}
