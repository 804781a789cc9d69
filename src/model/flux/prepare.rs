//! What does not depend on the latents, once per image: text projection, RoPE table, and the
//! modulation of every block at every step.
//!
//! Spec flux 3.3; reference `CombinedTimestepGuidanceTextProjEmbeddings` of diffusers.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::model::config::FluxConfig;
use crate::model::flux::ModulationLayout;
use crate::model::flux::rope;
use crate::model::weights::flux::EmbedderWeights;
use crate::model::weights::flux::FluxWeights;
use crate::model::weights::offload::in_turn;
use crate::ops::gemm::Activation;
use crate::ops::gemm::gemm;
use crate::ops::gemm::whole;
use crate::ops::timestep_embedding::timestep_embedding;

/// One image's constants.
#[derive(Debug)]
pub struct Prepared {
    /// `[T, D]`: the T5 states, projected.
    pub txt: Tensor<Act, 2>,
    /// `[S, Dh / 2, 2]`.
    pub rope: Tensor<f32, 3>,
    /// `[steps, columns]`, see [`crate::model::flux::ModulationLayout`].
    pub modulation: Tensor<Act, 2>,
    /// `1 / sqrt(Dh)`.
    pub attention_scale: f32,
}

/// What conditions an image.
#[derive(Debug, Clone, Copy)]
pub struct Conditioning<'a> {
    /// `[T, joint_attention_dim]`: T5's states.
    pub txt: Matrix<'a, Act>,
    /// `[1, pooled_projection_dim]`: CLIP's pooled vector.
    pub pooled: Matrix<'a, Act>,
    /// The model time of every step, times 1000.
    pub timesteps: &'a [f32],
    /// The guidance strength, times 1000; needed exactly when the model embeds it.
    pub guidance: Option<f32>,
}

impl Prepared {
    /// Buffers for images of one size, number of text tokens and number of steps, with the parts that
    /// depend on nothing else.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::Cuda`].
    pub fn new(
        device: &Device,
        config: &FluxConfig,
        txt_len: usize,
        [rows, columns]: [usize; 2],
        steps: usize,
    ) -> Result<Self> {
        let modulation = ModulationLayout::new(config).columns();
        Ok(Self {
            txt: Tensor::empty(device, [txt_len, config.hidden_size()])?,
            rope: rope::table(txt_len, rows, columns, config.axes_dims_rope).to_device(device)?,
            modulation: Tensor::empty(device, [steps, modulation])?,
            attention_scale: config.attention_scale(),
        })
    }
}

/// Computes the constants of an image.
///
/// # Errors
/// [`Error::Request`] when guidance is missing, [`Error::Shape`] when operands do not fit.
pub fn prepare(
    prepared: &mut Prepared,
    weights: &FluxWeights,
    conditioning: &Conditioning<'_>,
) -> Result<()> {
    let device = &prepared.txt.device();
    let [txt_len, _] = conditioning.txt.shape();
    let segments = whole(&weights.context_embedder, txt_len);
    gemm(prepared.txt.matrix_mut(), conditioning.txt, None, &segments, Activation::None)?;

    let vec = activated_vec(device, weights, conditioning)?;
    let [steps, _] = vec.shape();
    let mut end = 0;
    in_turn(device, &weights.modulation, |linear| {
        let [width, _] = linear.weight.shape();
        let columns = end..end + width;
        end = columns.end;
        let out = prepared.modulation.matrix_mut().columns(columns);
        gemm(out, vec.matrix(), None, &whole(linear, steps), Activation::None)
    })
}

/// `SiLU(vec) [steps, D]`, `vec` being the sum of the time, guidance and text embeddings.
///
/// # Errors
/// As [`prepare`].
pub fn activated_vec(
    device: &Device,
    weights: &FluxWeights,
    conditioning: &Conditioning<'_>,
) -> Result<Tensor<Act, 2>> {
    let steps = conditioning.timesteps.len();
    let mut vec =
        embed(&weights.time, &sinusoid(device, conditioning.timesteps)?, None, Activation::None)?;
    if let Some(guidance) = &weights.guidance {
        let value = conditioning.guidance.ok_or_else(|| Error::Request {
            field: "guidance",
            reason: "this model embeds the guidance strength and needs a value".into(),
        })?;
        let sinusoid = sinusoid(device, &vec![value; steps])?;
        vec = embed(guidance, &sinusoid, Some(&vec), Activation::None)?;
    }
    // The same row for every step: the sum is then an epilogue instead of a broadcast.
    let [_, width] = conditioning.pooled.shape();
    let mut pooled = Tensor::empty(device, [steps, width])?;
    for step in 0..steps {
        pooled.matrix_mut().rows(step..step + 1).copy_from(conditioning.pooled)?;
    }
    embed(&weights.pooled, &pooled, Some(&vec), Activation::Silu)
}

/// `[N, 256]` of values times 1000.
fn sinusoid(device: &Device, values: &[f32]) -> Result<Tensor<Act, 2>> {
    let mut out = Tensor::empty(device, [values.len(), FluxConfig::SINUSOID_WIDTH])?;
    let values = Tensor::from_host([values.len()], values.to_vec()).to_device(device)?;
    timestep_embedding(out.matrix_mut(), &values)?;
    Ok(out)
}

/// `activation(sum + out_layer(SiLU(in_layer(input))))`, `[N, D]`.
fn embed(
    weights: &EmbedderWeights,
    input: &Tensor<Act, 2>,
    sum: Option<&Tensor<Act, 2>>,
    activation: Activation,
) -> Result<Tensor<Act, 2>> {
    let [rows, _] = input.shape();
    let [width, _] = weights.in_layer.weight.shape();
    let [hidden, _] = weights.out_layer.weight.shape();
    let mut inner = Tensor::empty(&input.device(), [rows, width])?;
    let segments = whole(&weights.in_layer, rows);
    gemm(inner.matrix_mut(), input.matrix(), None, &segments, Activation::Silu)?;
    let mut out = Tensor::empty(&input.device(), [rows, hidden])?;
    let segments = whole(&weights.out_layer, rows);
    gemm(out.matrix_mut(), inner.matrix(), sum.map(Tensor::matrix), &segments, activation)?;
    Ok(out)
}
