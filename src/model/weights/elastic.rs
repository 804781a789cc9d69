//! Linear layers of the blocks, in each precision that a loaded plan asks for.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::Quantized;
use crate::device::Scaling;
use crate::device::Tensor;
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

    /// Whether outputs of double block `index` are kept in e4m3.
    pub(super) fn double_has_units(&self, index: usize) -> bool {
        let kept = |plan: &BlockPlans| {
            let plan = plan.double.get(index)?;
            Some([plan.attention, plan.out, plan.mlp_down].into_iter().any(Precision::is_fp8))
        };
        self.plans.iter().filter_map(kept).any(|kept| kept)
    }

    /// Whether outputs of single block `index` are kept in e4m3.
    pub(super) fn single_has_units(&self, index: usize) -> bool {
        let kept = |plan: &BlockPlans| {
            let plan = plan.single.get(index)?;
            Some([plan.attention, plan.linear2].into_iter().any(Precision::is_fp8))
        };
        self.plans.iter().filter_map(kept).any(|kept| kept)
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

    /// `linear` in e4m3 alone; `inputs` are the units of its input's columns, if it has such.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::Cuda`].
    pub fn in_fp8(linear: &Linear, inputs: Option<&[f32]>) -> Result<Self> {
        Ok(Self { bf16: None, fp8: Some(quantized(linear, inputs)?) })
    }

    /// `linear` in what is needed of it; `inputs` as of [`Self::in_fp8`].
    pub(super) fn of(linear: Linear, needs: Needs, inputs: Option<&[f32]>) -> Result<Self> {
        let fp8 = needs.fp8.then(|| quantized(&linear, inputs)).transpose()?;
        Ok(Self { bf16: needs.bf16.then_some(linear), fp8 })
    }
}

/// A weight as an op reads it; `wide` holds it where it has to be widened.
pub(super) fn as_act<'a>(weight: &'a Weight, wide: &'a mut Vec<f32>) -> Result<Matrix<'a, Act>> {
    let [rows, columns] = weight.shape();
    match weight {
        Weight::F32(weight) => Ok(Matrix::new(weight.host(), rows, columns)),
        Weight::Bf16(weight) => match weight.device() {
            Device::Cuda(_) => Ok(weight.matrix().as_act()),
            Device::Cpu => {
                wide.extend(weight.host().iter().map(|value| value.to_f32()));
                Ok(Matrix::new(wide, rows, columns))
            }
        },
        Weight::Fp8(_) => {
            let (expected, actual) = ("bf16 or f32".into(), "e4m3".into());
            Err(Error::Shape { op: "quantize", tensor: "weight", expected, actual })
        }
    }
}

/// Where names and shapes alone are checked, there are no weights.
pub(super) fn is_empty(linear: &Linear) -> bool {
    linear.weight.shape() == [0, 0]
}

/// The layer with its weight in e4m3, a scale for each output channel, and its input's units taken in.
fn quantized(linear: &Linear, inputs: Option<&[f32]>) -> Result<Linear> {
    let device = linear.weight.device();
    let inverse = |units: &[f32]| {
        let inverse: Vec<f32> = units.iter().map(|unit| 1.0 / unit).collect();
        Tensor::from_host([units.len()], inverse).to_device(&device)
    };
    let inverse = inputs.filter(|_| !is_empty(linear)).map(inverse).transpose()?;
    let mut values = Quantized::empty(&device, linear.weight.shape(), Scaling::Row)?;
    let mut wide = Vec::new();
    quantize(values.view_mut(), as_act(&linear.weight, &mut wide)?, inverse.as_ref())?;
    let bias = linear.bias.as_ref().map(|bias| bias.to_host()?.to_device(&device)).transpose()?;
    Ok(Linear { weight: Weight::Fp8(values), bias })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::e4m3;

    /// The numbers that a layer multiplies are its input's values times their units.
    #[test]
    fn units_go_into_the_weight() {
        let weight = Tensor::from_host([2, 3], vec![1.0, 2.0, -4.0, 0.5, 0.25, 8.0]);
        let bias = Some(Tensor::from_host([2], vec![1.0, 2.0]));
        let linear = Linear { weight: Weight::F32(weight), bias };
        let elastic = ElasticLinear::in_fp8(&linear, Some(&[1.0, 0.5, 0.125])).unwrap();
        assert!(elastic.at(Precision::Bf16).is_err());
        let Linear { weight: Weight::Fp8(quantized), bias: Some(bias) } =
            elastic.at(Precision::Fp8).unwrap()
        else {
            panic!("in e4m3, with its bias");
        };
        assert_eq!(bias.host(), [1.0, 2.0]);
        let view = quantized.view();
        for (row, expected) in [[1.0, 1.0, -0.5], [0.5, 0.125, 1.0]].iter().enumerate() {
            let scale = view.scales.row(0)[row];
            for (&byte, expected) in view.values.row(row).iter().zip(expected) {
                assert!((e4m3::to_f32(byte) * scale / expected - 1.0).abs() < 0.07, "row {row}");
            }
        }
    }
}
