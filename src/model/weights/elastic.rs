//! Linear layers of the blocks, in each precision that a loaded plan asks for.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::Quantized;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::device::quantized::BLOCK;
use crate::error::Error;
use crate::error::Result;
use crate::model::config::FluxConfig;
use crate::model::plan::BlockPlans;
use crate::model::plan::DoublePlan;
use crate::model::plan::Precision;
use crate::model::plan::SinglePlan;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;
use crate::ops::quantize::quantize;

/// Which precisions of a layer are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    pub(super) bf16: bool,
    pub(super) fp8: bool,
}

impl FromIterator<Precision> for Needs {
    fn from_iter<I: IntoIterator<Item = Precision>>(precisions: I) -> Self {
        let mut needs = Self::default();
        for precision in precisions {
            match precision {
                Precision::Bf16 => needs.bf16 = true,
                Precision::Fp8 => needs.fp8 = true,
            }
        }
        needs
    }
}

/// A transformer's sizes, and what of it is loaded: what these plans need.
#[derive(Debug, Clone, PartialEq)]
pub struct FluxLayout {
    /// Sizes.
    pub config: FluxConfig,
    /// As many blocks each as the transformer has.
    pub plans: Vec<BlockPlans>,
}

impl From<FluxConfig> for FluxLayout {
    /// All blocks in the pipeline's dtype.
    fn from(config: FluxConfig) -> Self {
        let plans = vec![BlockPlans::plain([config.num_layers, config.num_single_layers])];
        Self { config, plans }
    }
}

impl FluxLayout {
    /// What is needed of a layer of double block `index`.
    pub(super) fn double(&self, index: usize, layer: fn(&DoublePlan) -> Precision) -> Needs {
        self.plans.iter().filter_map(|plan| plan.double.get(index)).map(layer).collect()
    }

    /// What is needed of a layer of single block `index`.
    pub(super) fn single(&self, index: usize, layer: fn(&SinglePlan) -> Precision) -> Needs {
        self.plans.iter().filter_map(|plan| plan.single.get(index)).map(layer).collect()
    }
}

/// A linear layer, in each precision that is loaded.
#[derive(Debug)]
pub struct ElasticLinear {
    bf16: Option<Linear>,
    fp8: Option<Linear>,
}

impl From<Linear> for ElasticLinear {
    /// In the pipeline's dtype alone.
    fn from(linear: Linear) -> Self {
        Self { bf16: Some(linear), fp8: None }
    }
}

impl ElasticLinear {
    /// The layer in `precision`.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not loaded: a bug of the caller.
    pub fn at(&self, precision: Precision) -> Result<&Linear> {
        let (linear, name) = match precision {
            Precision::Bf16 => (&self.bf16, "bf16"),
            Precision::Fp8 => (&self.fp8, "e4m3"),
        };
        linear.as_ref().ok_or_else(|| Error::Shape {
            op: "linear",
            tensor: "weight",
            expected: format!("one loaded in {name}"),
            actual: "none".into(),
        })
    }

    /// `linear` in e4m3 alone. `split` is the column at which a second operand begins, or 0.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::Cuda`].
    pub fn in_fp8(linear: &Linear, split: usize) -> Result<Self> {
        Ok(Self { bf16: None, fp8: Some(quantized(linear, split)?) })
    }

    /// `linear` in what is needed of it. `split` is the column at which a second operand begins, or 0.
    pub(super) fn of(linear: Linear, needs: Needs, split: usize) -> Result<Self> {
        let fp8 = needs.fp8.then(|| quantized(&linear, split)).transpose()?;
        Ok(Self { bf16: needs.bf16.then_some(linear), fp8 })
    }
}

/// Where the second of two operands begins that lie side by side and are quantised each by itself:
/// with a whole block.
#[must_use]
pub fn aligned(split: usize) -> usize {
    split.next_multiple_of(BLOCK)
}

/// The layer with its weight in e4m3, a scale for each output channel. Columns from `split` on move
/// to where their operand's do; between are zeros.
fn quantized(linear: &Linear, split: usize) -> Result<Linear> {
    let device = linear.weight.device();
    let [rows, columns] = linear.weight.shape();
    let wide;
    let weight: Matrix<'_, Act> = match &linear.weight {
        Weight::F32(weight) => Matrix::new(weight.host(), rows, columns),
        Weight::Bf16(weight) => match &device {
            Device::Cuda(_) => weight.matrix().as_act(),
            Device::Cpu => {
                wide = weight.host().iter().map(|value| value.to_f32()).collect::<Vec<_>>();
                Matrix::new(&wide, rows, columns)
            }
        },
        Weight::Fp8(_) => {
            let (expected, actual) = ("bf16 or f32".into(), "e4m3".into());
            return Err(Error::Shape { op: "quantize", tensor: "weight", expected, actual });
        }
    };
    let moved = aligned(split) - split;
    let shape = [rows, columns + moved];
    let mut values = Quantized::empty(&device, shape, Scaling::Row)?;
    if moved == 0 {
        quantize(values.view_mut(), weight)?;
    } else if rows > 0 {
        let mut padded = Tensor::<Act, 2>::zeros(shape).to_device(&device)?;
        padded.matrix_mut().columns(0..split).copy_from(weight.columns(0..split))?;
        let rest = padded.matrix_mut().columns(split + moved..columns + moved);
        { rest }.copy_from(weight.columns(split..columns))?;
        quantize(values.view_mut(), padded.matrix())?;
    }
    let bias = linear.bias.as_ref().map(|bias| bias.to_host()?.to_device(&device)).transpose()?;
    Ok(Linear { weight: Weight::Fp8(values), bias })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::e4m3;

    /// Columns of the second operand lie where a block begins; those between are zeros.
    #[test]
    fn the_second_operand_begins_with_a_block() {
        let (rows, split, columns) = (2, 192, 200);
        let values: Vec<f32> = (0_u8..).map(f32::from).take(columns).collect();
        let weight = Tensor::from_host([rows, columns], [&values[..], &values[..]].concat());
        let linear = Linear {
            weight: Weight::F32(weight),
            bias: Some(Tensor::from_host([rows], vec![1.0, 2.0])),
        };
        let needs = [Precision::Fp8].into_iter().collect();
        let elastic = ElasticLinear::of(linear, needs, split).unwrap();
        assert!(elastic.at(Precision::Bf16).is_err());
        let Linear { weight: Weight::Fp8(quantized), bias: Some(bias) } =
            elastic.at(Precision::Fp8).unwrap()
        else {
            panic!("in e4m3, with its bias");
        };
        assert_eq!(bias.host(), [1.0, 2.0]);
        let view = quantized.view();
        assert_eq!(view.shape(), [rows, 256 + 8]);
        let scale = view.scales.row(0)[1];
        let number = |column: usize| e4m3::to_f32(view.values.row(1)[column]) * scale;
        assert!((192..256).all(|column| number(column) == 0.0));
        for (column, from) in [(7, 7), (191, 191), (256, 192), (263, 199)] {
            assert!((number(column) / values[from] - 1.0).abs() < 0.07, "column {column}");
        }
    }
}
