//! One set of names for every file layout: diffusers'. A tensor of a single file (BFL, ComfyUI)
//! becomes the row ranges that diffusers stores as tensors of their own.

mod flux;
mod scales;
mod vae;

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;

use crate::error::Result;
use crate::model::weights::checkpoint::Checkpoint;
use crate::model::weights::header::StoredTensor;

/// A network of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    /// The diffusion transformer.
    Transformer,
    /// The autoencoder.
    Vae,
    /// CLIP.
    TextEncoder,
    /// T5.
    TextEncoder2,
}

/// A tensor under its diffusers name: rows of a stored one.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The stored tensor.
    pub stored: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// What the stored numbers are to be multiplied by.
    pub scale: f32,
    /// Byte ranges of the file that holds it, one after the other.
    pub pieces: Vec<Range<usize>>,
}

/// Which part of a stored tensor a diffusers tensor is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    Whole,
    /// Rows of the fused q, k, v: part 0, 1 or 2.
    Third(usize),
    /// Rows of a single block's q, k, v, MLP: part 0 to 3.
    Linear1(usize),
    /// The two halves of the rows change places.
    Swapped,
    /// A 1 x 1 convolution that is a matrix.
    Squeezed,
}

/// Prefixes of the components in all-in-one files.
const FOREIGN: [&str; 4] =
    ["model.diffusion_model.", "vae.", "first_stage_model.", "text_encoders."];

impl Component {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Transformer, Self::Vae, Self::TextEncoder, Self::TextEncoder2];

    /// Its folder in the diffusers layout.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }

    /// Whether a checkpoint holds it, told by one tensor that every file of it has.
    #[must_use]
    pub fn is_in(self, checkpoint: &Checkpoint) -> bool {
        self.prefix_in(checkpoint).is_some()
    }

    /// What its names begin with in this checkpoint.
    fn prefix_in(self, checkpoint: &Checkpoint) -> Option<&'static str> {
        let (prefixes, markers): (&[&str], &[&str]) = match self {
            Self::Transformer => {
                (&["model.diffusion_model.", ""], &["x_embedder.weight", "img_in.weight"])
            }
            Self::Vae => (&["vae.", "first_stage_model.", ""], &["decoder.conv_in.weight"]),
            Self::TextEncoder => (
                &["text_encoders.clip_l.transformer.", ""],
                &["text_model.final_layer_norm.weight", "final_layer_norm.weight"],
            ),
            Self::TextEncoder2 => {
                (&["text_encoders.t5xxl.transformer.", ""], &["encoder.final_layer_norm.weight"])
            }
        };
        let here = |prefix: &str| {
            markers.iter().any(|name| checkpoint.contains(&format!("{prefix}{name}")))
        };
        prefixes.iter().copied().find(|prefix| here(prefix))
    }

    /// Tensors that checkpoints carry and nobody needs.
    fn ignores(self, name: &str) -> bool {
        let ignored = ["logit_scale", "text_projection.weight", "position_ids"];
        // The other half of a whole CLIP, which looks at pictures.
        let seeing = name.starts_with("vision_model.") || name == "visual_projection.weight";
        matches!(self, Self::TextEncoder | Self::TextEncoder2)
            && ignored.iter().any(|end| name == *end || name.ends_with(&format!(".{end}")))
            || self == Self::TextEncoder && seeing
    }

    /// The diffusers tensors that lie in the stored tensor `name` (without its prefix).
    fn diffusers_names(self, name: &str, vae_levels: usize) -> Vec<(String, Cut)> {
        let whole = |name: &str| vec![(name.to_owned(), Cut::Whole)];
        match self {
            Self::Transformer => flux::diffusers_names(name).unwrap_or_else(|| whole(name)),
            Self::Vae => vae::diffusers_name(name, vae_levels)
                .map_or_else(|| whole(name), |found| vec![found]),
            Self::TextEncoder => whole(name.strip_prefix("text_model.").unwrap_or(name)),
            Self::TextEncoder2 => whole(name),
        }
    }
}

/// Every tensor of a component by its diffusers name; names that are not known stay as they are.
pub(crate) fn views(
    checkpoint: &Checkpoint,
    component: Component,
) -> Result<BTreeMap<String, View>> {
    let prefix = component.prefix_in(checkpoint).unwrap_or("");
    let names: Vec<(&str, &str)> = checkpoint
        .names()
        .filter(|name| {
            !prefix.is_empty() || !FOREIGN.iter().any(|foreign| name.starts_with(foreign))
        })
        .filter_map(|name| Some((name, name.strip_prefix(prefix)?)))
        .filter(|(_, name)| !component.ignores(name))
        .collect();
    let scales = scales::collect(checkpoint, names.iter().map(|(stored, _)| *stored))?;
    let vae_levels = vae::levels(names.iter().map(|(_, name)| *name));
    let mut views: BTreeMap<String, View> = BTreeMap::new();
    for (stored_name, name) in names {
        let Some(stored) = checkpoint.stored(stored_name).filter(|_| !scales.claims(stored_name))
        else {
            continue;
        };
        for (target, cut) in component.diffusers_names(name, vae_levels) {
            let view = View::cut(checkpoint, stored_name, stored, cut, scales.of(stored_name))?;
            if let Some(other) = views.insert(target.clone(), view) {
                let expected = format!("one tensor that is `{target}`");
                return Err(checkpoint.error(
                    stored_name,
                    expected,
                    format!("`{}` too", other.stored),
                ));
            }
        }
    }
    if component == Component::TextEncoder2 {
        merge_t5_embeddings(checkpoint, &mut views)?;
    }
    Ok(views)
}

/// T5's embedding goes by two names; a file may have either or both.
fn merge_t5_embeddings(checkpoint: &Checkpoint, views: &mut BTreeMap<String, View>) -> Result<()> {
    let Some(alias) = views.remove("encoder.embed_tokens.weight") else { return Ok(()) };
    let shared = views.entry("shared.weight".into()).or_insert_with(|| alias.clone());
    if shared.shape != alias.shape || shared.dtype != alias.dtype {
        let expected = format!("{:?} {:?} as in `{}`", shared.dtype, shared.shape, shared.stored);
        let actual = format!("{:?} {:?}", alias.dtype, alias.shape);
        return Err(checkpoint.error(&alias.stored, expected, actual));
    }
    Ok(())
}

impl View {
    fn cut(
        checkpoint: &Checkpoint,
        name: &str,
        stored: &StoredTensor,
        cut: Cut,
        scale: f32,
    ) -> Result<Self> {
        let rows = stored.shape.first().copied().unwrap_or(1);
        let mut shape = stored.shape.clone();
        let ranges = match cut {
            Cut::Whole => [0..rows, 0..0],
            Cut::Squeezed => {
                if let [_, _, 1, 1] = shape[..] {
                    shape.truncate(2);
                }
                [0..rows, 0..0]
            }
            Cut::Third(_) if !rows.is_multiple_of(3) => {
                return Err(checkpoint.error(
                    name,
                    "rows of q, k and v: a multiple of 3",
                    format!("{rows}"),
                ));
            }
            Cut::Third(part) => [rows / 3 * part..rows / 3 * (part + 1), 0..0],
            Cut::Swapped if !rows.is_multiple_of(2) => {
                return Err(checkpoint.error(
                    name,
                    "rows of shift and scale: an even number",
                    format!("{rows}"),
                ));
            }
            Cut::Swapped => [rows / 2..rows, 0..rows / 2],
            Cut::Linear1(part) => {
                let hidden = hidden_size(checkpoint, name, stored);
                if hidden == 0 || rows / hidden < 3 {
                    let expected = format!("rows of q, k, v (3 x {hidden}) and MLP");
                    return Err(checkpoint.error(name, expected, format!("{rows} rows")));
                }
                let end = if part == 3 { rows } else { hidden * (part + 1) };
                [hidden * part..end, 0..0]
            }
        };
        if let Some(first) = shape.first_mut() {
            *first = ranges.iter().map(Range::len).sum();
        }
        let row_bytes = stored.bytes.len().checked_div(rows).unwrap_or(0);
        let bytes = |range: Range<usize>| {
            stored.bytes.start + range.start * row_bytes..stored.bytes.start + range.end * row_bytes
        };
        let pieces = ranges.into_iter().map(bytes).collect();
        Ok(Self { stored: name.into(), dtype: stored.dtype, shape, scale, pieces })
    }
}

/// The columns of a fused matrix; for its bias those of the matrix beside it.
fn hidden_size(checkpoint: &Checkpoint, name: &str, stored: &StoredTensor) -> usize {
    let weight = name.strip_suffix("bias").map(|module| format!("{module}weight"));
    let weight = weight.and_then(|weight| checkpoint.stored(&weight)).unwrap_or(stored);
    weight.shape.get(1).copied().unwrap_or(0)
}
