//! Prepares a model for widths: what heads and neurons give on calibration prompts, sorted by what is lost
//! without them, written as a model in a folder.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::json;

use crate::elastic::Mode;
use crate::elastic::Plan;
use crate::elastic::sorted;
use crate::elastic::sorted::BlockOrder;
use crate::elastic::sorted::reading_layers;
use crate::elastic::statistics::ColumnStatistics;
use crate::elastic::statistics::Reads;
use crate::elastic::statistics::order_of_heads;
use crate::elastic::statistics::order_of_neurons;
use crate::elastic::stored;
use crate::error::Error;
use crate::error::Result;
use crate::files;
use crate::files::File;
use crate::files::Folder;
use crate::model::flux::Scratch;
use crate::model::plan::BlockPlans;
use crate::model::plan::BlockSizes;
use crate::model::source::ComponentFiles;
use crate::model::source::ModelFiles;
use crate::model::source::Weights;
use crate::model::weights::naming::Component;
use crate::model::weights::reader::Reader;
use crate::model::weights::stored_fp8;
use crate::model::weights::width_biases;
use crate::pipeline::Engine;
use crate::pipeline::Request;
use crate::pipeline::Settings;
use crate::pipeline::load::Elastic;
use crate::pipeline::load::parse;

/// Prompts for calibration where the user gives none: things, scenes and styles, in words that the demo
/// model knows too.
pub const CALIBRATION_PROMPTS: [&str; 12] = [
    "a red apple",
    "a blue car",
    "a green leaf",
    "a house with a garden",
    "a black cat",
    "a birthday cake",
    "an airplane",
    "a butterfly",
    "a guitar",
    "a snowman",
    "a bicycle",
    "a slice of pizza",
];
/// Every so manieth step is looked at: neighbours are alike.
const STRIDE: usize = 4;

/// Is told how many of how many parts are done, and may stop.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>;

/// The steps of a picture that are looked at.
pub(super) fn looked_at(steps: usize) -> Vec<usize> {
    (0..steps).skip((STRIDE / 2).min(steps / 2)).step_by(STRIDE).collect()
}

pub(super) fn report(progress: Progress<'_>, done: usize, of: usize) -> Result<()> {
    match progress(done, of) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

/// Refuses a folder that is there, before anything is loaded for it.
///
/// # Errors
/// [`Error::Request`].
pub fn check_new(out: &Path) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    let reason = format!("expected a folder that is not there yet, found {}", out.display());
    Err(Error::Request { field: "out", reason })
}

impl Engine {
    /// Writes the model into folder `out`, which must not exist, with the heads and neurons of every block
    /// sorted by their importance for `requests`, and what narrower layers add to their biases. The engine's
    /// mode must be one of bf16 and full width.
    ///
    /// # Errors
    /// [`Error::Request`] if `out` exists or a part of the model is no diffusers folder; those of
    /// [`Engine::generate`]; [`Error::Write`].
    pub fn prepare_widths(
        &mut self,
        requests: &[Request],
        out: &Path,
        progress: Progress<'_>,
    ) -> Result<()> {
        check_new(out)?;
        let folders = self.other_folders()?;
        let sizes = BlockSizes::full(&self.components.flux.config);
        let mut statistics = self.new_statistics(sizes);
        for (index, request) in requests.iter().enumerate() {
            report(progress, index, requests.len() + 1)?;
            let steps = looked_at(Settings::new(request, &self.defaults)?.steps);
            let seen = RefCell::new(&mut statistics);
            self.probe(request, &steps, &|block, txt_len, scratch| {
                count(&mut seen.borrow_mut()[block], txt_len, scratch)
            })?;
        }
        report(progress, requests.len(), requests.len() + 1)?;
        let partial = files::partial(out);
        files::create_folder(&partial)?;
        let written = self.write_prepared(&partial, &folders, &statistics, requests.len());
        match written.and_then(|()| files::rename(&partial, out)) {
            Ok(()) => report(progress, requests.len() + 1, requests.len() + 1),
            Err(error) => {
                files::remove_folder(&partial);
                Err(error)
            }
        }
    }

    /// Statistics of each block's streams.
    fn new_statistics(&self, sizes: BlockSizes) -> Vec<Vec<ColumnStatistics>> {
        let flux = &self.components.flux;
        let columns = || ColumnStatistics::new(sizes.attention + sizes.mlp);
        let double = flux.double.iter().map(|_| vec![columns(), columns()]);
        double.chain(flux.single.iter().map(|_| vec![columns()])).collect()
    }

    /// The folders of everything but the transformer, by name.
    fn other_folders(&self) -> Result<Vec<(&'static str, Folder)>> {
        let mut folders = Vec::new();
        for component in [Component::Vae, Component::TextEncoder, Component::TextEncoder2] {
            let ComponentFiles { weights, .. } = self.files.component(component);
            let Weights::Folder(folder) = weights else {
                let name = component.folder();
                let flag = name.replace('_', "-");
                let reason = format!(
                    "expected a model whose {name} is a diffusers folder, found another; name one \
                     with --{flag}"
                );
                return Err(Error::Request { field: "model", reason });
            };
            folders.push((component.folder(), folder.clone()));
        }
        let (clip, t5) = self.files.tokenizers()?;
        folders.push(("tokenizer", clip.clone()));
        folders.push(("tokenizer_2", t5.clone()));
        Ok(folders)
    }

    fn write_prepared(
        &self,
        out: &Path,
        folders: &[(&'static str, Folder)],
        statistics: &[Vec<ColumnStatistics>],
        prompts: usize,
    ) -> Result<()> {
        for (name, folder) in folders {
            let to = out.join(name);
            files::create_folder(&to)?;
            for name in folder.names()? {
                if let Some(file) = folder.file(&name) {
                    files::place(&file, &to)?;
                }
            }
        }
        if let Some(scheduler) = &self.files.scheduler {
            let to = out.join("scheduler");
            files::create_folder(&to)?;
            files::place(scheduler, &to)?;
        }
        self.write_transformer(&out.join("transformer"), statistics)?;
        let index = json!({
            "_class_name": "FluxPipeline",
            "transformer": ["diffusers", "FluxTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "T5TokenizerFast"],
            "scheduler": self.files.scheduler.as_ref()
                .map(|_| ["diffusers", "FlowMatchEulerDiscreteScheduler"]),
        });
        let elastic = json!({
            "version": 1,
            "example_prompt": self.defaults.prompt,
            "prepared_from": self.files.transformer_digest()?,
            "calibration_prompts": prompts,
        });
        for (name, document) in [("elastic.json", elastic), ("model_index.json", index)] {
            let text = format!("{document:#}\n");
            files::write_atomic(&out.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    fn write_transformer(&self, out: &Path, statistics: &[Vec<ColumnStatistics>]) -> Result<()> {
        files::create_folder(out)?;
        let flux = &self.components.flux;
        let (double, sizes) = (flux.double.len(), BlockSizes::full(&flux.config));
        let transformer = &self.files.transformer;
        let checkpoint = transformer.open()?;
        let mut reader = Reader::new(&checkpoint, Component::Transformer)?;
        let orders = orders(&mut reader, statistics, double, sizes)?;
        let path = out.join(width_biases::FILE);
        sorted::write_width_biases(&mut reader, &orders, statistics, double, sizes, &path)?;
        match &transformer.config {
            Some(config) => files::place(config, out)?,
            None => {
                let text = format!("{:#}\n", flux.config.to_json());
                files::write_atomic(&out.join("config.json"), text.as_bytes())?;
            }
        }
        let path = out.join("diffusion_pytorch_model.safetensors");
        sorted::write_weights(reader, &orders, double, sizes, &path)?;
        // What mode S makes of what was written.
        let blocks = [flux.double.len(), flux.single.len()];
        let plan = Plan::built_in(&Mode::S, blocks);
        let plans: Vec<BlockPlans> = plan.into_iter().map(|plan| plan.blocks).collect();
        let folder = Folder::Disk(out.to_owned());
        let transformer = ComponentFiles::of_folder(Component::Transformer, folder);
        let files = ModelFiles { transformer, ..self.files.clone() };
        let weights = files.load_flux_for(&plans, self.precision.weights)?;
        stored::write_fp8(&weights, &out.join(stored_fp8::FILE))
    }
}

/// Counts what a block left in its buffers; of a double block text rows come first.
fn count(streams: &mut [ColumnStatistics], txt_len: usize, scratch: &Scratch) -> Result<()> {
    let both = scratch.attention_mlp.act.to_host()?;
    let both = both.matrix();
    let [rows, _] = both.shape();
    match streams {
        [txt, img] => {
            (0..txt_len).for_each(|row| txt.add(both.row(row)));
            (txt_len..rows).for_each(|row| img.add(both.row(row)));
        }
        streams => {
            for stream in streams {
                (0..rows).for_each(|row| stream.add(both.row(row)));
            }
        }
    }
    Ok(())
}

/// Each block's order.
fn orders(
    reader: &mut Reader<'_>,
    statistics: &[Vec<ColumnStatistics>],
    double_blocks: usize,
    sizes: BlockSizes,
) -> Result<Vec<BlockOrder>> {
    let mut orders = Vec::new();
    for (block, streams) in statistics.iter().enumerate() {
        let mut reads: Vec<Reads<'_>> = streams
            .iter()
            .map(|statistics| Reads { statistics, lengths: vec![0.0; sizes.attention + sizes.mlp] })
            .collect();
        for layer in reading_layers(block, double_blocks) {
            let weight = reader.to_f32(&format!("{}.weight", layer.name))?;
            let first = if layer.heads { 0 } else { sizes.attention };
            let inputs = weight.len() / sizes.hidden;
            for row in weight.chunks_exact(inputs) {
                let lengths = &mut reads[layer.stream].lengths[first..first + inputs];
                for (length, &weight) in lengths.iter_mut().zip(row) {
                    *length += f64::from(weight).powi(2);
                }
            }
        }
        orders.push(BlockOrder {
            heads: order_of_heads(&reads, sizes),
            neurons: reads.iter().map(|reads| order_of_neurons(reads, sizes)).collect(),
        });
    }
    Ok(orders)
}

/// Whether narrower layers of a model leave out what matters least: it was prepared, or trained so, or its
/// weights are random and all alike.
pub(super) fn has_widths(transformer: &ComponentFiles, elastic: Option<&File>) -> Result<bool> {
    let random = matches!(transformer.weights, Weights::Synthetic { .. });
    if random || transformer.width_biases().is_some() {
        return Ok(true);
    }
    let Some(elastic) = elastic else { return Ok(false) };
    Ok(parse::<Elastic>(elastic)?.trained_widths.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_step_of_every_picture_is_looked_at() {
        assert_eq!(looked_at(28), [2, 6, 10, 14, 18, 22, 26]);
        assert_eq!((looked_at(1), looked_at(2), looked_at(3)), (vec![0], vec![1], vec![1]));
    }
}
