//! A plan as a JSON file.
//!
//! ```json
//! {
//!   "version": 1,
//!   "name": "mine",
//!   "double": [{ "blocks": "0-18", "mlp_up": "fp8", "mlp_down": "fp8" }],
//!   "single": [{ "blocks": "0-37", "linear1": "fp8", "linear2": "fp8" },
//!              { "blocks": "30-37", "linear2": "bf16", "mlp": 6144 }]
//! }
//! ```
//!
//! What a block is not given is bf16 and full width; later entries change earlier ones.

use std::fmt::Display;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::elastic::Measured;
use crate::elastic::Plan;
use crate::error::Error;
use crate::error::Result;
use crate::error::json_error;
use crate::error::quoted;
use crate::files::File;
use crate::model::config::FluxConfig;
use crate::model::plan::BlockPlans;
use crate::model::plan::DoublePlan;
use crate::model::plan::Precision;
use crate::model::plan::SinglePlan;
use crate::model::plan::Width;
use crate::model::weights::width_biases::MLP_STEP;

/// Of a file; one with an entry for each of FLUX.1's blocks is 9 kB long.
const MOST_BYTES: usize = 256 << 10;
/// Of an entry, as the 3 in 0-3+7+9; as many as any model has blocks.
const MOST_RANGES: usize = 1_024;

/// What files of this program say.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
    #[serde(default)]
    double: Vec<DoubleEntry>,
    #[serde(default)]
    single: Vec<SingleEntry>,
}

/// What some double blocks are given.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DoubleEntry {
    blocks: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    qkv: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attention: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    out: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mlp_up: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mlp_down: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heads: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mlp: Option<usize>,
}

/// What some single blocks are given.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SingleEntry {
    blocks: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linear1: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attention: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linear2: Option<Precision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heads: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mlp: Option<usize>,
}

/// Reads the plan of a transformer of that config.
///
/// # Errors
/// [`Error::Read`]; as [`parse`].
pub fn read(file: &File, config: &FluxConfig) -> Result<Plan> {
    parse(&file.text_up_to(MOST_BYTES)?, file.path(), config)
}

/// The plan in the text of a file; `path` is for messages.
///
/// # Errors
/// [`Error::Format`] for what is no plan, [`Error::Config`] for blocks, heads or neurons that the
/// transformer does not have.
pub fn parse(text: &str, path: &Path, config: &FluxConfig) -> Result<Plan> {
    let stored: Stored = serde_json::from_str(text).map_err(|error| Error::Format {
        path: path.to_owned(),
        reason: format!("expected a plan in JSON: {}", json_error(&error)),
    })?;
    let fields = Fields { path, config };
    if stored.version != VERSION {
        return fields.refuse("version", VERSION, stored.version);
    }
    let mut double = vec![DoublePlan::default(); config.num_layers];
    for (index, entry) in stored.double.iter().enumerate() {
        let field = format!("double[{index}]");
        let width = fields.width(&field, entry.heads, entry.mlp)?;
        for block in fields.blocks(&field, &entry.blocks, double.len())? {
            let plan = &mut double[block];
            set(&mut plan.qkv, entry.qkv);
            set(&mut plan.attention, entry.attention);
            set(&mut plan.out, entry.out);
            set(&mut plan.mlp_up, entry.mlp_up);
            set(&mut plan.mlp_down, entry.mlp_down);
            plan.width = narrower(plan.width, width);
        }
    }
    let mut single = vec![SinglePlan::default(); config.num_single_layers];
    for (index, entry) in stored.single.iter().enumerate() {
        let field = format!("single[{index}]");
        let width = fields.width(&field, entry.heads, entry.mlp)?;
        for block in fields.blocks(&field, &entry.blocks, single.len())? {
            let plan = &mut single[block];
            set(&mut plan.linear1, entry.linear1);
            set(&mut plan.attention, entry.attention);
            set(&mut plan.linear2, entry.linear2);
            plan.width = narrower(plan.width, width);
        }
    }
    let Stored { name, model, measured, .. } = stored;
    Ok(Plan { name, blocks: BlockPlans { double, single }, model, measured })
}

fn set(precision: &mut Precision, change: Option<Precision>) {
    *precision = change.unwrap_or(*precision);
}

/// The width, where an entry says one.
fn narrower(width: Width, change: Width) -> Width {
    Width { heads: change.heads.or(width.heads), mlp: change.mlp.or(width.mlp) }
}

/// Checks fields of a file against a transformer.
struct Fields<'a> {
    path: &'a Path,
    config: &'a FluxConfig,
}

impl Fields<'_> {
    fn refuse<T>(
        &self,
        field: impl Into<String>,
        expected: impl Display,
        actual: impl Display,
    ) -> Result<T> {
        let (expected, actual) = (expected.to_string(), actual.to_string());
        Err(Error::Config { path: self.path.to_owned(), field: field.into(), expected, actual })
    }

    /// The blocks that `text` names, as in `0-3+7`, of `count`.
    fn blocks(
        &self,
        field: &str,
        text: &str,
        count: usize,
    ) -> Result<impl Iterator<Item = usize> + use<>> {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let range = |part: &str| {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            (first <= last && last < count).then_some(first..=last)
        };
        let parts = text.split('+').take(MOST_RANGES + 1);
        let ranges: Option<Vec<_>> = parts.map(range).collect();
        match ranges.filter(|ranges| ranges.len() <= MOST_RANGES) {
            Some(ranges) => Ok(ranges.into_iter().flatten()),
            None => {
                let expected = format!("blocks below {count}, as 0-3+7");
                let found = format!("`{}`", quoted(text));
                self.refuse(format!("{field}.blocks"), expected, found)
            }
        }
    }

    fn width(&self, field: &str, heads: Option<usize>, mlp: Option<usize>) -> Result<Width> {
        let all = self.config.num_attention_heads;
        if let Some(heads) = heads.filter(|heads| !(1..=all).contains(heads)) {
            return self.refuse(format!("{field}.heads"), format!("1 to {all}"), heads);
        }
        let most = self.config.mlp_size();
        let fits = |mlp: usize| (MLP_STEP..=most).contains(&mlp) && mlp.is_multiple_of(MLP_STEP);
        if let Some(mlp) = mlp.filter(|&mlp| mlp != most && !fits(mlp)) {
            let expected = format!("a multiple of {MLP_STEP} up to {most}");
            return self.refuse(format!("{field}.mlp"), expected, mlp);
        }
        Ok(Width { heads, mlp })
    }
}

/// The plan as the text of a file: an entry for each run of blocks that are alike.
#[must_use]
pub fn to_json(plan: &Plan) -> String {
    let own = |precision| (precision != Precision::default()).then_some(precision);
    let double = runs(&plan.blocks.double).into_iter().map(|(blocks, block)| DoubleEntry {
        blocks,
        qkv: own(block.qkv),
        attention: own(block.attention),
        out: own(block.out),
        mlp_up: own(block.mlp_up),
        mlp_down: own(block.mlp_down),
        heads: block.width.heads,
        mlp: block.width.mlp,
    });
    let single = runs(&plan.blocks.single).into_iter().map(|(blocks, block)| SingleEntry {
        blocks,
        linear1: own(block.linear1),
        attention: own(block.attention),
        linear2: own(block.linear2),
        heads: block.width.heads,
        mlp: block.width.mlp,
    });
    let stored = Stored {
        version: VERSION,
        name: plan.name.clone(),
        model: plan.model.clone(),
        measured: plan.measured,
        double: double.collect(),
        single: single.collect(),
    };
    // Strings and numbers alone: nothing that JSON does not have.
    serde_json::to_string_pretty(&stored).unwrap_or_default() + "\n"
}

/// Runs of equal blocks that are not all default, with the words for which they are.
fn runs<B: Copy + PartialEq + Default>(blocks: &[B]) -> Vec<(String, B)> {
    let mut first = 0;
    let mut runs = Vec::new();
    for run in blocks.chunk_by(PartialEq::eq) {
        let last = first + run.len() - 1;
        if run[0] != B::default() {
            let words = if first == last { first.to_string() } else { format!("{first}-{last}") };
            runs.push((words, run[0]));
        }
        first = last + 1;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elastic::Mode;

    fn config() -> FluxConfig {
        FluxConfig {
            in_channels: 64,
            out_channels: None,
            num_layers: 3,
            num_single_layers: 4,
            attention_head_dim: 64,
            num_attention_heads: 3,
            joint_attention_dim: 128,
            pooled_projection_dim: 128,
            guidance_embeds: true,
            axes_dims_rope: [8, 28, 28],
        }
    }

    fn parsed(text: &str) -> Result<Plan> {
        parse(text, Path::new("plan.json"), &config())
    }

    #[test]
    fn later_entries_change_earlier_ones() {
        let text = r#"{"version": 1, "name": "mine",
            "double": [{"blocks": "0-2", "qkv": "fp8", "mlp": 512}, {"blocks": "1", "qkv": "bf16", "heads": 2}],
            "single": [{"blocks": "0+2-3", "linear2": "fp8"}]}"#;
        let plan = parsed(text).unwrap();
        assert_eq!(plan.blocks.double[0].qkv, Precision::Fp8);
        assert_eq!(plan.blocks.double[1].qkv, Precision::Bf16);
        assert_eq!(plan.blocks.double[1].width, Width { heads: Some(2), mlp: Some(512) });
        assert_eq!(
            plan.blocks.single.iter().filter(|block| block.linear2 == Precision::Fp8).count(),
            3
        );
        assert_eq!(plan.blocks.single[1], SinglePlan::default());
    }

    #[test]
    fn every_built_in_plan_survives_its_file() {
        for mode in [Mode::Original, Mode::Xl, Mode::L, Mode::M, Mode::S] {
            let mut plan = Plan::built_in(&mode, [3, 4]).unwrap();
            plan.measured = Some(Measured {
                loss: 0.0123,
                psnr: 41.5,
                time: 0.625,
                ssim: Some(0.99),
                retrieval: None,
            });
            plan.blocks.single[2].width = Width { heads: Some(1), mlp: Some(128) };
            assert_eq!(parsed(&to_json(&plan)).unwrap(), plan);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (entry, part) in [
            (r#""blocks": "0-3""#, "double[0].blocks"),
            (r#""blocks": "2-1""#, "blocks below 3"),
            (r#""blocks": """#, "double[0].blocks"),
            (r#""blocks": "0", "heads": 4"#, "1 to 3"),
            (r#""blocks": "0", "heads": 0"#, "double[0].heads"),
            (r#""blocks": "0", "mlp": 100"#, "multiple of 128 up to 768"),
            (r#""blocks": "0", "linear1": "fp8""#, "linear1"),
            (r#""blocks": "0", "qkv": "fp16""#, "fp16"),
        ] {
            let text = format!(r#"{{"version": 1, "name": "x", "double": [{{{entry}}}]}}"#);
            let error = parsed(&text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("plan.json"), "{entry}: {error}");
        }
        let error = parsed(r#"{"version": 2, "name": "x"}"#).unwrap_err().to_string();
        assert!(error.contains("version"), "{error}");
    }
}
