//! Reading and checking of the JSON configs: what is absurd or not supported is refused here, with
//! file and field, before any memory is taken for it.

use serde_json::Value;
use serde_json::json;

use crate::error::Result;
use crate::files::File;
use crate::model::config::ClipConfig;
use crate::model::config::Fields;
use crate::model::config::FluxConfig;
use crate::model::config::SchedulerConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::config::limits::MAX_LAYERS;
use crate::model::config::limits::MAX_LEVELS;
use crate::model::config::limits::MAX_ROWS;
use crate::model::config::limits::MAX_WIDTH;
use crate::model::config::limits::MIN_BUCKETS;

/// Of what is added to a variance; FLUX.1 has 1e-5 and 1e-6.
const EPS: [f32; 2] = [1e-12, 1.0];
/// Of latents and of a static shift; FLUX.1 has 0.36, 0.12, 1 and 3.
const FACTOR: [f32; 2] = [1e-3, 1_000.0];

impl FluxConfig {
    /// Reads and checks `transformer/config.json`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for a field that is missing, absurd or not supported.
    pub fn read(file: &File) -> Result<Self> {
        let fields = Fields::read(file)?;
        fields.only("_class_name", &json!("FluxTransformer2DModel"))?;
        fields.absent(&["quantization_config"])?;
        let widths =
            ["in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim"];
        fields.sizes(&widths, 1..=MAX_WIDTH)?;
        fields.sizes(&["pooled_projection_dim"], 1..=MAX_WIDTH)?;
        fields.sizes(&["num_layers", "num_single_layers"], 1..=MAX_LAYERS)?;
        fields.only("patch_size", &json!(1))?;
        if fields.get("out_channels").is_some() {
            fields.sizes(&["out_channels"], 1..=MAX_WIDTH)?;
        }
        if fields.get("guidance_embeds").and_then(Value::as_bool).is_none() {
            return fields.refuse("guidance_embeds", "true or false");
        }
        let config: Self = match fields.get("axes_dims_rope").map(axes) {
            Some(None) => return fields.refuse("axes_dims_rope", "three whole numbers"),
            _ => fields.parse()?,
        };
        let head = config.attention_head_dim;
        config.expect_sound(file.path())?;
        let sum =
            config.axes_dims_rope.iter().try_fold(0_usize, |sum, axis| sum.checked_add(*axis));
        let usable = config.axes_dims_rope.iter().all(|axis| *axis > 0 && axis.is_multiple_of(2));
        if sum != Some(head) || !usable {
            let expected =
                format!("even numbers above 0 that add up to attention_head_dim ({head})");
            let actual = format!("{:?}", config.axes_dims_rope);
            return Err(fields.error("axes_dims_rope", expected, actual));
        }
        Ok(config)
    }
}

fn axes(value: &Value) -> Option<[u64; 3]> {
    let axes: Vec<u64> = value.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
    axes.try_into().ok()
}

impl VaeConfig {
    /// Reads and checks `vae/config.json`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for a field that is missing, absurd or not supported.
    pub fn read(file: &File) -> Result<Self> {
        let fields = Fields::read(file)?;
        fields.only("_class_name", &json!("AutoencoderKL"))?;
        fields.sizes(&["latent_channels", "norm_num_groups"], 1..=MAX_WIDTH)?;
        fields.sizes(&["layers_per_block"], 1..=MAX_LAYERS)?;
        fields.sizes(&["sample_size"], 1..=MAX_WIDTH)?;
        fields.positive(&["scaling_factor"], FACTOR)?;
        fields.numbers(&["shift_factor"], f64::from(FACTOR[1]))?;
        for (field, value) in
            [("in_channels", json!(3)), ("out_channels", json!(3)), ("act_fn", json!("silu"))]
        {
            fields.only(field, &value)?;
        }
        fields.only("use_quant_conv", &json!(false))?;
        fields.only("use_post_quant_conv", &json!(false))?;
        fields.absent(&["latents_mean", "latents_std"])?;
        let channels = fields.get("block_out_channels").and_then(Value::as_array);
        let Some(channels) = channels.filter(|channels| (1..=MAX_LEVELS).contains(&channels.len()))
        else {
            return fields.refuse("block_out_channels", "1 to 8 numbers of channels");
        };
        let levels = channels.len();
        fields.only("down_block_types", &json!(vec!["DownEncoderBlock2D"; levels]))?;
        fields.only("up_block_types", &json!(vec!["UpDecoderBlock2D"; levels]))?;
        let groups = fields.get("norm_num_groups").and_then(Value::as_u64).unwrap_or(1);
        let in_groups = |value: &Value| {
            let max = MAX_WIDTH as u64;
            value.as_u64().is_some_and(|n| (1..=max).contains(&n) && n.is_multiple_of(groups))
        };
        if !channels.iter().all(in_groups) {
            let expected = format!("multiples of norm_num_groups ({groups}) up to {MAX_WIDTH}");
            return fields.refuse("block_out_channels", expected);
        }
        let config: Self = fields.parse()?;
        config.expect_sound(file.path())?;
        Ok(config)
    }
}

impl ClipConfig {
    /// Reads and checks `text_encoder/config.json`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for a field that is missing, absurd or not supported.
    pub fn read(file: &File) -> Result<Self> {
        let fields = Fields::read(file)?;
        fields.only("model_type", &json!("clip_text_model"))?;
        fields.exactly("hidden_act", &json!("quick_gelu"))?;
        fields.sizes(&["vocab_size", "max_position_embeddings"], 1..=MAX_ROWS)?;
        fields
            .sizes(&["hidden_size", "intermediate_size", "num_attention_heads"], 1..=MAX_WIDTH)?;
        fields.sizes(&["num_hidden_layers"], 1..=MAX_LAYERS)?;
        fields.sizes(&["eos_token_id"], 0..=MAX_ROWS)?;
        if fields.get("layer_norm_eps").is_some() {
            fields.positive(&["layer_norm_eps"], EPS)?;
        }
        let config: Self = fields.parse()?;
        config.expect_sound(file.path())?;
        Ok(config)
    }
}

impl T5Config {
    /// Reads and checks `text_encoder_2/config.json`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for a field that is missing, absurd or not supported.
    pub fn read(file: &File) -> Result<Self> {
        let fields = Fields::read(file)?;
        fields.only("model_type", &json!("t5"))?;
        fields.absent(&["quantization_config"])?;
        fields.exactly("feed_forward_proj", &json!("gated-gelu"))?;
        fields.only("is_gated_act", &json!(true))?;
        fields.only("dense_act_fn", &json!("gelu_new"))?;
        fields.sizes(&["vocab_size"], 1..=MAX_ROWS)?;
        fields.sizes(&["d_model", "d_kv", "num_heads", "d_ff"], 1..=MAX_WIDTH)?;
        fields.sizes(&["num_layers"], 1..=MAX_LAYERS)?;
        fields.sizes(&["relative_attention_num_buckets"], MIN_BUCKETS..=MAX_WIDTH)?;
        fields.positive(&["layer_norm_epsilon"], EPS)?;
        if fields.get("relative_attention_max_distance").is_some() {
            fields.sizes(&["relative_attention_max_distance"], 1..=MAX_ROWS)?;
        }
        let config: Self = fields.parse()?;
        config.expect_sound(file.path())?;
        Ok(config)
    }
}

/// Beyond this even the smallest picture's noise levels leave f32; FLUX.1 has 0.5 and 1.15.
const MAX_SHIFT: f64 = 10.0;

impl SchedulerConfig {
    /// Reads and checks `scheduler/scheduler_config.json`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for a field that is missing, absurd or not supported.
    pub fn read(file: &File) -> Result<Self> {
        let fields = Fields::read(file)?;
        fields.only("_class_name", &json!("FlowMatchEulerDiscreteScheduler"))?;
        fields.sizes(&["num_train_timesteps"], 1..=MAX_ROWS)?;
        fields.positive(&["shift"], FACTOR)?;
        if fields.get("use_dynamic_shifting").and_then(Value::as_bool).is_none() {
            return fields.refuse("use_dynamic_shifting", "true or false");
        }
        fields.only("time_shift_type", &json!("exponential"))?;
        fields.absent(&["shift_terminal"])?;
        let flags = ["invert_sigmas", "stochastic_sampling", "use_karras_sigmas"];
        for flag in flags.into_iter().chain(["use_exponential_sigmas", "use_beta_sigmas"]) {
            fields.only(flag, &json!(false))?;
        }
        for shift in
            ["base_shift", "max_shift"].into_iter().filter(|field| fields.get(field).is_some())
        {
            fields.numbers(&[shift], MAX_SHIFT)?;
        }
        let lengths = ["base_image_seq_len", "max_image_seq_len"];
        for length in lengths.into_iter().filter(|field| fields.get(field).is_some()) {
            fields.sizes(&[length], 1..=MAX_ROWS)?;
        }
        let config: Self = fields.parse()?;
        if config.max_image_seq_len <= config.base_image_seq_len {
            let expected = format!("more than base_image_seq_len ({})", config.base_image_seq_len);
            return fields.refuse("max_image_seq_len", expected);
        }
        Ok(config)
    }
}
