//! A transformer with heads and neurons in another order, and what narrower layers add to their biases: the
//! two files of a prepared transformer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use half::bf16;
use safetensors::Dtype;
use safetensors::View;

use crate::elastic::statistics::ColumnStatistics;
use crate::error::Error;
use crate::error::Result;
use crate::files;
use crate::model::plan::BlockSizes;
use crate::model::weights::reader::Reader;
use crate::model::weights::width_biases::MLP_STEP;
use crate::model::weights::width_biases::by_heads;
use crate::model::weights::width_biases::by_neurons;

/// The order of one block: for each place, what comes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOrder {
    /// Heads.
    pub heads: Vec<usize>,
    /// Neurons of each stream: text and image of a double block, or one.
    pub neurons: Vec<Vec<usize>>,
}

impl BlockOrder {
    /// The columns of the heads, in their order.
    fn head_columns(&self, head_dim: usize) -> Vec<usize> {
        self.heads.iter().flat_map(|head| head * head_dim..(head + 1) * head_dim).collect()
    }
}

/// A layer that reads heads, neurons or both, and is corrected where some are left out.
#[derive(Debug, Clone)]
pub struct ReadingLayer {
    /// Its name in files, without `.weight`.
    pub name: String,
    /// Its stream: text, then image of a double block, or the only one.
    pub stream: usize,
    /// Whether its first columns are heads.
    pub heads: bool,
    /// Whether its further columns are neurons.
    pub neurons: bool,
}

/// The layers of a block that read heads and neurons; double blocks come first.
#[must_use]
pub fn reading_layers(block: usize, double_blocks: usize) -> Vec<ReadingLayer> {
    let layer =
        |name, stream, [heads, neurons]: [bool; 2]| ReadingLayer { name, stream, heads, neurons };
    if block >= double_blocks {
        let name = format!("single_transformer_blocks.{}.proj_out", block - double_blocks);
        return vec![layer(name, 0, [true, true])];
    }
    let name = |name: &str| format!("transformer_blocks.{block}.{name}");
    vec![
        layer(name("attn.to_add_out"), 0, [true, false]),
        layer(name("ff_context.net.2"), 0, [false, true]),
        layer(name("attn.to_out.0"), 1, [true, false]),
        layer(name("ff.net.2"), 1, [false, true]),
    ]
}

/// How the rows or columns of tensors change places.
#[derive(Debug, Default)]
struct Moves {
    /// By name: for each row, which comes there.
    rows: BTreeMap<String, Vec<usize>>,
    columns: BTreeMap<String, Vec<usize>>,
}

impl Moves {
    fn new(orders: &[BlockOrder], double_blocks: usize, sizes: BlockSizes) -> Self {
        let head_dim = sizes.attention / sizes.heads;
        let mut moves = Self::default();
        for (block, order) in orders.iter().enumerate() {
            let heads = order.head_columns(head_dim);
            let (prefix, qkv, up): (_, &[&str], &[&str]) = if block < double_blocks {
                let qkv = &["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"];
                let up = &["ff_context.net.0.proj", "ff.net.0.proj"];
                (format!("transformer_blocks.{block}."), qkv, up)
            } else {
                let block = block - double_blocks;
                let prefix = format!("single_transformer_blocks.{block}.");
                (prefix, &["to_q", "to_k", "to_v"], &["proj_mlp"])
            };
            for name in qkv {
                moves.outputs(&format!("{prefix}attn.{name}"), &heads);
            }
            for (name, neurons) in up.iter().zip(&order.neurons) {
                moves.outputs(&format!("{prefix}{name}"), neurons);
            }
            for layer in reading_layers(block, double_blocks) {
                let mut columns = if layer.heads { heads.clone() } else { Vec::new() };
                let first = columns.len();
                if layer.neurons {
                    let neurons = &order.neurons[layer.stream];
                    columns.extend(neurons.iter().map(|neuron| first + neuron));
                }
                moves.columns.insert(format!("{}.weight", layer.name), columns);
            }
        }
        moves
    }

    fn outputs(&mut self, layer: &str, order: &[usize]) {
        for part in ["weight", "bias"] {
            self.rows.insert(format!("{layer}.{part}"), order.to_vec());
        }
    }

    /// A tensor's elements in their new places.
    fn apply(&self, name: &str, shape: &[usize], data: Vec<f32>) -> Vec<f32> {
        let width = shape.get(1..).unwrap_or_default().iter().product::<usize>();
        let data = match self.rows.get(name) {
            Some(rows) => {
                rows.iter().flat_map(|row| &data[row * width..][..width]).copied().collect()
            }
            None => data,
        };
        match self.columns.get(name) {
            Some(columns) => data
                .chunks_exact(width)
                .flat_map(|row| columns.iter().map(|&column| row[column]))
                .collect(),
            None => data,
        }
    }
}

/// A tensor that is read and sorted when it is written.
struct Sorted<'a, 'c> {
    name: String,
    shape: Vec<usize>,
    /// Whether bf16 would lose some of it.
    wide: bool,
    moves: &'a Moves,
    reader: &'a Mutex<Reader<'c>>,
    failed: &'a Mutex<Option<Error>>,
}

impl View for Sorted<'_, '_> {
    fn dtype(&self) -> Dtype {
        if self.wide { Dtype::F32 } else { Dtype::BF16 }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let read = match self.reader.lock() {
            Ok(mut reader) => reader.to_f32(&self.name),
            Err(_) => Ok(Vec::new()),
        };
        let values = read.unwrap_or_else(|error| {
            if let Ok(mut failed) = self.failed.lock() {
                failed.get_or_insert(error);
            }
            vec![0.0; self.shape.iter().product()]
        });
        let values = self.moves.apply(&self.name, &self.shape, values);
        match self.wide {
            true => values.into_iter().flat_map(f32::to_le_bytes).collect(),
            false => {
                values.into_iter().flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect()
            }
        }
    }

    fn data_len(&self) -> usize {
        let size = if self.wide { size_of::<f32>() } else { size_of::<bf16>() };
        size * self.shape.iter().product::<usize>()
    }
}

/// Writes the transformer in diffusers' names, each block in its new order, in bf16 where that loses nothing
/// and else in f32.
///
/// # Errors
/// Those of reading the weights; [`Error::Write`].
pub fn write_weights(
    reader: Reader<'_>,
    orders: &[BlockOrder],
    double_blocks: usize,
    sizes: BlockSizes,
    path: &Path,
) -> Result<()> {
    let moves = Moves::new(orders, double_blocks, sizes);
    let of = |name: &str| {
        (name.to_owned(), reader.shape(name).unwrap_or_default().to_vec(), reader.is_wide(name))
    };
    let tensors: Vec<(String, Vec<usize>, bool)> = reader.names().map(of).collect();
    let (reader, failed) = (Mutex::new(reader), Mutex::new(None));
    let (reader, failed, moves) = (&reader, &failed, &moves);
    let tensors = tensors.into_iter().map(|(name, shape, wide)| {
        (name.clone(), Sorted { name, shape, wide, moves, reader, failed })
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    files::write_safetensors(path, tensors, metadata)?;
    match failed.lock().ok().and_then(|mut failed| failed.take()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// What a layer's bias becomes as it loses inputs: a row for each `step` columns kept, from one step to
/// all but one. `columns` are the places, in the weight as it was, of the inputs in their new order.
fn table(weight: &[f32], inputs: usize, columns: &[usize], means: &[f64], step: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let kept = columns.len() / step;
    let mut rows = Vec::new();
    let mut sum = vec![0.0_f64; outputs];
    for index in (1..kept).rev() {
        // The last step takes what is left, where columns are no multiple of it.
        let end = if index + 1 == kept { columns.len() } else { (index + 1) * step };
        for (&column, &mean) in columns.iter().zip(means).take(end).skip(index * step) {
            for (sum, weights) in sum.iter_mut().zip(weight.chunks_exact(inputs)) {
                *sum += f64::from(weights[column]) * mean;
            }
        }
        rows.push(sum.clone());
    }
    #[expect(clippy::cast_possible_truncation, reason = "biases are f32")]
    rows.iter().rev().flatten().map(|&value| value as f32).collect()
}

/// A table in memory.
struct Table {
    shape: [usize; 2],
    values: Vec<f32>,
}

impl View for Table {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(&self.values))
    }

    fn data_len(&self) -> usize {
        size_of_val(&*self.values)
    }
}

/// Writes what layers add to their biases at each width. `statistics` are of each block's streams, over
/// the columns of attention and hidden layer as they were.
///
/// # Errors
/// Those of reading the weights; [`Error::Write`].
pub fn write_width_biases(
    reader: &mut Reader<'_>,
    orders: &[BlockOrder],
    statistics: &[Vec<ColumnStatistics>],
    double_blocks: usize,
    sizes: BlockSizes,
    path: &Path,
) -> Result<()> {
    let head_dim = sizes.attention / sizes.heads;
    let mut tables = Vec::new();
    for (block, (order, streams)) in orders.iter().zip(statistics).enumerate() {
        for layer in reading_layers(block, double_blocks) {
            let weight = reader.to_f32(&format!("{}.weight", layer.name))?;
            let outputs = sizes.hidden;
            let inputs = weight.len() / outputs;
            let stream = &streams[layer.stream];
            let mut push = |name, columns: &[usize], means: &[f64], step| {
                let values = table(&weight, inputs, columns, means, step);
                tables.push((name, Table { shape: [values.len() / outputs, outputs], values }));
            };
            let heads = if layer.heads { sizes.attention } else { 0 };
            if layer.heads {
                let columns = order.head_columns(head_dim);
                let means: Vec<f64> = columns.iter().map(|&column| stream.mean(column)).collect();
                push(by_heads(&layer.name), &columns, &means, head_dim);
            }
            if layer.neurons {
                let neurons = &order.neurons[layer.stream];
                let columns: Vec<usize> = neurons.iter().map(|neuron| heads + neuron).collect();
                let mean = |&neuron: &usize| stream.mean(sizes.attention + neuron);
                let means: Vec<f64> = neurons.iter().map(mean).collect();
                push(by_neurons(&layer.name), &columns, &means, MLP_STEP);
            }
        }
    }
    files::write_safetensors(path, tables, HashMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_what_the_columns_behind_it_add() {
        // Two outputs of four inputs, in the order 3, 1, 0, 2.
        let weight = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
        let means = [0.5, 1.0, 2.0, 3.0];
        let rows = table(&weight, 4, &[3, 1, 0, 2], &means, 1);
        // Kept 3; 3, 1; 3, 1, 0.
        assert_eq!(rows, [2.0 + 2.0 + 9.0, 20.0 + 20.0 + 90.0, 2.0 + 9.0, 20.0 + 90.0, 9.0, 90.0]);
        assert_eq!(table(&weight, 4, &[3, 1, 0, 2], &means, 2), [11.0, 110.0]);
        assert_eq!(table(&weight, 4, &[3, 1, 0, 2], &means, 4), [0.0; 0]);
    }

    #[test]
    fn every_layer_of_a_block_moves_with_its_inputs() {
        let sizes = BlockSizes { heads: 2, attention: 4, mlp: 3, hidden: 4 };
        let order =
            |streams| BlockOrder { heads: vec![1, 0], neurons: vec![vec![2, 0, 1]; streams] };
        let moves = Moves::new(&[order(2), order(1)], 1, sizes);
        let heads = vec![2, 3, 0, 1];
        let of = |name: &str| moves.rows.get(name).cloned();
        assert_eq!(of("transformer_blocks.0.attn.add_v_proj.bias"), Some(heads.clone()));
        assert_eq!(of("single_transformer_blocks.0.proj_mlp.weight"), Some(vec![2, 0, 1]));
        assert_eq!(of("transformer_blocks.0.attn.to_out.0.weight"), None);
        let name = "single_transformer_blocks.0.proj_out.weight";
        assert_eq!(moves.columns[name], [2, 3, 0, 1, 6, 4, 5]);
        assert_eq!(moves.columns["transformer_blocks.0.attn.to_out.0.weight"], heads);
        let row: Vec<f32> = (0_u8..7).map(f32::from).collect();
        assert_eq!(moves.apply(name, &[1, 7], row), [2.0, 3.0, 0.0, 1.0, 6.0, 4.0, 5.0]);
    }
}
