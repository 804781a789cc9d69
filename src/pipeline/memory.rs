//! How much GPU memory a model and a picture need, told before any is taken. Arithmetic alone.
//!
//! Buffers come from blocks that the arena takes from the driver (`device/cuda/arena.rs`), which it
//! does not give back and cannot always fill: what counts are the blocks. The factors below come from
//! a replay of FLUX.1-dev's buffers through the arena's rules, at 512x512 to 8192x8192.

use crate::cache::ListSchedule;
use crate::error::Error;
use crate::error::OTHER_DEVICE;
use crate::error::Result;
use crate::model::config::FluxConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::flux::ModulationLayout;
use crate::model::flux::cached::Compared;
use crate::pipeline::Settings;
use crate::pipeline::tiling::Tiling;

/// What is taken beside buffers once the free memory was asked for: compiled kernels and their local
/// memory, recorded steps, the driver's own. An allowance: too small, and loading ends in the middle.
pub(super) const KERNELS: usize = 600_000_000;
/// One part in this many of the weights is lost at the ends of blocks: 1.6 % for FLUX.1-dev.
const WEIGHTS_PER_LOSS: usize = 50;
/// Blocks per bytes in use at the decoder's peak: 1.40 to 1.58.
const DECODE_BLOCKS: [usize; 2] = [8, 5];
/// Bytes of an activation on CUDA.
const ACT: usize = 2;

/// The bytes that a picture takes, and a model if it is not loaded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// All networks; 0 once they are loaded.
    weights: usize,
    /// Beside the buffers.
    reserve: usize,
    /// [`crate::pipeline::session::Session`]; 0 if there is one of the picture's size.
    session: usize,
    /// T5, or the modulation, before the steps.
    encode: usize,
    /// The VAE decoder, after them.
    decode: usize,
    /// What the decoder would take in tiles.
    decode_tiled: usize,
}

impl Need {
    /// Of a picture with a loaded model.
    pub(crate) fn of_picture(
        flux: &FluxConfig,
        t5: &T5Config,
        vae: &VaeConfig,
        settings: &Settings,
        lists: &[ListSchedule],
    ) -> Self {
        let [rows, columns] = settings.grid();
        let latents = [2 * rows, 2 * columns];
        let whole = decode_bytes(vae, latents);
        let decode_tiled = match Tiling::new(vae) {
            Ok(tiling) => decode_bytes(vae, latents.map(|side| side.min(tiling.side()))),
            Err(_) => whole,
        };
        Self {
            weights: 0,
            reserve: 0,
            session: session_bytes(flux, rows * columns, settings)
                + cache_bytes(flux, rows * columns, settings, lists),
            encode: encode_bytes(t5, settings.max_sequence_length),
            decode: if settings.vae_tiling { decode_tiled } else { whole },
            decode_tiled,
        }
    }

    /// The same with the buffers in e4m3 that a plan with fp8 needs.
    pub(crate) fn and_fp8(self, flux: &FluxConfig, settings: &Settings) -> Self {
        let [rows, columns] = settings.grid();
        let (hidden, seq) = (flux.hidden_size(), settings.max_sequence_length + rows * columns);
        let joint = hidden + flux.mlp_size();
        let scales = 2 * size_of::<f32>();
        Self { session: self.session + seq * (hidden + joint + scales), ..self }
    }

    /// The same with a model of so many bytes that is still to be loaded.
    pub(crate) fn and_weights(self, weights: usize) -> Self {
        Self { weights, reserve: KERNELS + weights / WEIGHTS_PER_LOSS, ..self }
    }

    /// The same with weights that wait in host memory: so many bytes of modulation layers and of T5's
    /// blocks are on the GPU while they are used.
    pub(crate) fn and_fetched(self, [modulation, t5]: [usize; 2]) -> Self {
        Self { encode: (self.encode + t5).max(modulation), ..self }
    }

    /// The same with more beside the buffers.
    pub(crate) fn and_reserve(self, bytes: usize) -> Self {
        Self { reserve: self.reserve + bytes, ..self }
    }

    /// The same with a session that is there already.
    pub(crate) fn without_session(self) -> Self {
        Self { session: 0, ..self }
    }

    /// All of it; encoding and decoding do not happen at the same time.
    pub(crate) fn total(&self) -> usize {
        self.weights + self.reserve + self.session + self.encode.max(self.decode)
    }

    /// Fails if `free` bytes are not enough.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with what takes the memory and what would help.
    pub(crate) fn check(&self, free: usize) -> Result<()> {
        let needed = self.total();
        if needed <= free {
            return Ok(());
        }
        let last = match self.encode > self.decode {
            true => ("text encoder", self.encode),
            false => ("VAE decoder", self.decode),
        };
        let mut parts = vec![
            ("weights", self.weights),
            ("denoising", self.session),
            last,
            ("kernels and driver", self.reserve),
        ];
        parts.retain(|(_, bytes)| *bytes > 0);
        Err(Error::OutOfMemory { needed, free, parts, advice: self.advice(free) })
    }

    /// What would make it fit.
    fn advice(&self, free: usize) -> String {
        let tiled = Self { decode: self.decode_tiled, ..*self };
        if tiled.total() <= free {
            return format!("decode in tiles with --vae-tiling, or {OTHER_DEVICE}");
        }
        // With the smallest picture it would be little more than this.
        if self.weights + self.reserve + self.encode < free {
            let tiling = if tiled.decode < self.decode { ", with --vae-tiling" } else { "" };
            let smaller = "make the picture smaller with --width and --height";
            return format!("{smaller}{tiling}, or {OTHER_DEVICE}");
        }
        OTHER_DEVICE.into()
    }
}

/// Of `Session`: the workspace, what is prepared for the picture, latents and velocity.
fn session_bytes(flux: &FluxConfig, img_len: usize, settings: &Settings) -> usize {
    let (hidden, txt_len) = (flux.hidden_size(), settings.max_sequence_length);
    let seq = txt_len + img_len;
    // Three streams, mid, normed; q, k and v; attention output and MLP.
    let workspace = seq * (5 * hidden + 3 * hidden + hidden + flux.mlp_size());
    let prepared = txt_len * hidden + settings.steps * ModulationLayout::new(flux).columns();
    let rope = seq * flux.attention_head_dim * size_of::<f32>();
    let latents = img_len * (flux.in_channels + flux.out_channels());
    ACT * (workspace + prepared + latents) + rope
}

/// Of the cached block lists: what is compared, and the effects of the skipped blocks.
fn cache_bytes(
    flux: &FluxConfig,
    img_len: usize,
    settings: &Settings,
    lists: &[ListSchedule],
) -> usize {
    let txt_len = settings.max_sequence_length;
    let rows = |list: &ListSchedule| {
        let compared = match list.blocks.compared {
            _ if !list.blocks.compares => 0,
            Compared::Image => img_len,
            Compared::Joint => img_len + txt_len,
        };
        let kept = if list.blocks.skips { list.blocks.taylor_order + 1 } else { 0 };
        compared + (img_len + txt_len) * kept
    };
    ACT * flux.hidden_size() * lists.iter().map(rows).sum::<usize>()
}

/// Of a block of T5: its input, two norms' output, q, k and v, attention output, the sum; the MLP's
/// two halves, their product, the block's output.
fn encode_bytes(t5: &T5Config, seq: usize) -> usize {
    ACT * seq * (4 * t5.d_model + 4 * t5.num_heads * t5.d_kv + 3 * t5.d_ff)
}

/// Of the decoder over `[h, w]` latents, at its largest resnet or convolution after upsampling.
fn decode_bytes(vae: &VaeConfig, [height, width]: [usize; 2]) -> usize {
    let mut pixels = height * width;
    let mut input = vae.block_out_channels.last().copied().unwrap_or_default();
    let mut peak = 0;
    for (level, &output) in vae.block_out_channels.iter().rev().enumerate() {
        // The input stays; beside it first a norm and the convolution of it, at last the second
        // norm, the shortcut and the result.
        peak = peak.max(pixels * (2 * input + output).max(input + 3 * output));
        if level + 1 < vae.block_out_channels.len() {
            // Small, large, and convolved.
            peak = peak.max(pixels * output * (1 + 4 + 4));
            pixels *= 4;
        }
        input = output;
    }
    let [blocks, used] = DECODE_BLOCKS;
    ACT * peak * blocks / used
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::device::Device;
    use crate::elastic::Mode;
    use crate::elastic::Plan;
    use crate::model::flux::Prepared;
    use crate::model::flux::Workspace;
    use crate::model::plan::BlockPlans;
    use crate::model::source::ModelConfigs;
    use crate::model::source::ModelSource;
    use crate::model::weights::dtype::WeightDtype;
    use crate::pipeline::Defaults;
    use crate::pipeline::Request;

    const GB: usize = 1_000_000_000;

    pub(crate) fn flux_dev() -> ModelConfigs {
        ModelSource::new("synthetic:flux-dev").resolve().unwrap().configs().unwrap()
    }

    fn settings(side: usize, vae_tiling: bool) -> Settings {
        let defaults = Defaults {
            noise_grid: crate::ops::noise::Grid::H100,
            blocks: [19, 38],
            prompt: String::new(),
            width: side,
            height: side,
            steps: 28,
            guidance: None,
            max_sequence_length: 512,
        };
        Settings::new(&Request { vae_tiling, ..Request::default() }, &defaults).unwrap()
    }

    pub(crate) fn picture(side: usize, vae_tiling: bool) -> Need {
        let configs = flux_dev();
        let settings = settings(side, vae_tiling);
        Need::of_picture(&configs.flux, &configs.t5, &configs.vae, &settings, &[])
    }

    fn near(actual: usize, expected: f64) -> bool {
        (actual as f64 / 1e9 - expected).abs() <= 0.01 * expected
    }

    fn plain() -> BlockPlans {
        BlockPlans::plain([19, 38])
    }

    #[test]
    fn blocks_in_e4m3_take_half() {
        let bytes = |mode| {
            let plan = Plan::built_in(&mode, [19, 38]).unwrap();
            flux_dev().weight_bytes(WeightDtype::Bf16, &[plan.blocks]).unwrap()[0]
        };
        let (xl, m) = (bytes(Mode::Xl), bytes(Mode::M));
        // 17.3 GB of blocks in bf16, design of the modes.
        assert!(near(xl - m, 8.6), "{} GB", xl - m);
        let both = [Mode::Xl, Mode::M].map(|mode| Plan::built_in(&mode, [19, 38]).unwrap().blocks);
        let both = flux_dev().weight_bytes(WeightDtype::Bf16, &both).unwrap()[0];
        assert!(near(both - xl, 8.6), "{} GB", both - xl);
    }

    #[test]
    fn weights_of_flux_dev() {
        let configs = flux_dev();
        let bf16 = configs.weight_bytes(WeightDtype::Bf16, &[plain()]).unwrap();
        // Parameters of the published checkpoints, two bytes each: 11.90, 0.0838, 0.1231, 4.762
        // billion; vectors are f32, of which only the VAE's norms show.
        for (bytes, expected) in bf16.into_iter().zip([23.81, 0.1677, 0.2462, 9.524]) {
            assert!(near(bytes, expected), "{bytes}, expected {expected} GB");
        }
        let f32: usize = configs.weight_bytes(WeightDtype::F32, &[plain()]).unwrap().iter().sum();
        assert!(near(f32, 67.5), "{f32}");
    }

    #[test]
    fn activations_of_flux_dev() {
        let Need { weights, reserve, session, encode, decode, decode_tiled } = picture(1024, false);
        assert_eq!((weights, reserve, decode_tiled), (0, 0, decode));
        assert!(near(session, 0.4338), "{session}");
        assert!(near(encode, 0.065), "{encode}");
        // 640 channels of 1024 x 1024, and 8 / 5 of that.
        assert_eq!(decode, (1024 * 1024 * 640 * 2) * 8 / 5);
        let large = picture(2048, false);
        assert_eq!((large.decode, large.decode_tiled), (4 * decode, decode));
        assert_eq!(picture(2048, true).decode, decode);
    }

    /// Spec dualcache 12: 24 + 24 + 3 MiB of the double blocks, 27 + 27 of the single ones.
    #[test]
    fn a_cache_takes_what_the_specification_says() {
        let flux = flux_dev().flux;
        let options = crate::cache::Preset::Conservative.options().unwrap();
        let bytes = |options: &crate::cache::CacheOptions| {
            let lists = options.schedule([19, 38], 28, true).unwrap();
            cache_bytes(&flux, 4096, &settings(1024, false), &lists)
        };
        assert_eq!(bytes(&options), 105 << 20);
        let mut forecast = options;
        (forecast.double.taylor_order, forecast.single.taylor_order) = (1, 1);
        assert_eq!(bytes(&forecast), (105 + 54) << 20);
    }

    /// On the CPU the same tensors exist, with four bytes an activation.
    #[test]
    fn a_session_takes_what_its_tensors_do() {
        let mut flux = flux_dev().flux;
        (flux.num_attention_heads, flux.num_layers, flux.num_single_layers) = (2, 1, 3);
        let settings = Settings { height: 48, steps: 5, ..settings(32, false) };
        let (txt_len, [rows, columns]) = (settings.max_sequence_length, settings.grid());
        let device = Device::Cpu;
        let Prepared { txt, rope, modulation, .. } =
            Prepared::new(&device, &flux, txt_len, [rows, columns], 5).unwrap();
        let seq = txt_len + rows * columns;
        let Workspace { streams, scratch } =
            Workspace::new(&device, &flux, seq, &BlockPlans::plain([1, 3])).unwrap();
        let [stream, next, third] = &streams;
        let two = [&txt, &modulation, stream, next, third, &scratch.mid, &scratch.normed.act];
        let elements = two.map(|tensor| tensor.host().len()).iter().sum::<usize>()
            + scratch.qkvs.by_heads[0].1.act.host().len()
            + scratch.attention_mlp.act.host().len()
            + 2 * rows * columns * 64;
        let expected = 2 * elements + 4 * rope.host().len();
        assert_eq!(session_bytes(&flux, rows * columns, &settings), expected);
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_parts_and_what_helps() {
        let weights = flux_dev().weight_bytes(WeightDtype::Bf16, &[plain()]).unwrap().iter().sum();
        let need = picture(1024, false).and_weights(weights);
        assert!(need.check(80 * GB).is_ok());
        assert!(need.check(need.total()).is_ok());
        let error = need.check(24 * GB).unwrap_err();
        assert_eq!(error.exit_code(), 5);
        assert_eq!(
            error.to_string(),
            "expected 37.60 GB of free GPU memory, found 24.00 GB: weights 33.75 GB, denoising \
             0.43 GB, VAE decoder 2.15 GB, kernels and driver 1.27 GB; use another GPU with --device \
             cuda:N, or the CPU with --device cpu"
        );
    }

    #[test]
    fn the_flag_that_helps_is_named() {
        let advice = |need: Need, free: usize| match need.check(free).unwrap_err() {
            Error::OutOfMemory { advice, .. } => advice,
            error => panic!("{error:?}"),
        };
        let large = picture(2048, false).and_weights(34 * GB);
        assert!(advice(large, 40 * GB).starts_with("decode in tiles with --vae-tiling, or use"));
        let both = advice(large, 37 * GB);
        assert!(both.starts_with("make the picture smaller"), "{both}");
        assert!(both.contains("--height, with --vae-tiling, or use another GPU"), "{both}");
        let tiled = picture(2048, true).and_weights(34 * GB);
        assert!(!advice(tiled, 37 * GB).contains("tiling"));
        assert!(advice(large, 34 * GB).starts_with("use another GPU with --device cuda:N"));
        // With a loaded model only the picture counts.
        let loaded = picture(2048, false).without_session();
        assert!(loaded.check(9 * GB).is_ok() && loaded.check(8 * GB).is_err());
        let error = loaded.check(GB).unwrap_err().to_string();
        assert!(error.contains("found 1.00 GB: VAE decoder 8.59 GB; "), "{error}");
    }
}
