//! Linear layers of the blocks, in each precision and at each width that a loaded plan asks for.

mod layout;

use std::sync::Arc;

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::Quantized;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::device::kept::Kept;
use crate::error::Error;
use crate::error::Result;
use crate::model::plan::LayerForm;
use crate::model::plan::Precision;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;
use crate::ops::gemm::WeightPart;
use crate::ops::quantize::quantize;

pub use layout::FluxLayout;
pub use layout::Needs;

/// A linear layer, in each form that is loaded.
#[derive(Debug)]
pub struct ElasticLinear {
    forms: Vec<(LayerForm, Linear)>,
}

impl From<Linear> for ElasticLinear {
    /// In the pipeline's dtype and at full width alone.
    fn from(linear: Linear) -> Self {
        let form = LayerForm::whole(Precision::Bf16, linear.weight.shape());
        Self { forms: vec![(form, linear)] }
    }
}

impl ElasticLinear {
    /// The layer in that form.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not loaded: a bug of the caller.
    pub fn at(&self, form: LayerForm) -> Result<&Linear> {
        let found = self.forms.iter().find(|(loaded, _)| loaded.is(&form));
        found.map(|(_, linear)| linear).ok_or_else(|| Error::Shape {
            op: "linear",
            tensor: "weight",
            expected: format!("one loaded as {form:?}"),
            actual: format!("{} others", self.forms.len()),
        })
    }

    /// The layer in the first form that is loaded.
    #[must_use]
    pub fn first(&self) -> Option<&Linear> {
        self.forms.first().map(|(_, linear)| linear)
    }

    /// `linear` in e4m3 alone; `inputs` are the units of its input's columns, if it has such.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::Cuda`].
    pub fn in_fp8(linear: &Linear, inputs: Option<&[f32]>) -> Result<Self> {
        let form = LayerForm::whole(Precision::Fp8, linear.weight.shape());
        Ok(Self { forms: vec![(form, quantized(linear, inputs)?)] })
    }

    /// `linear` in what is needed of it; `inputs` as of [`Self::in_fp8`]. What a narrower one lacks of its
    /// inputs `missing` gives, from which columns are kept to what is added to the bias.
    pub(super) fn of(
        linear: Linear,
        needs: &Needs,
        inputs: Option<&[f32]>,
        missing: impl Fn(Kept) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let Some(first) = needs.forms.first() else { return Ok(Self { forms: Vec::new() }) };
        if is_empty(&linear) {
            // Names and shapes alone are checked: no forms are asked for.
            return Ok(Self { forms: vec![(*first, linear)] });
        }
        let (bf16, fp8) = match (&linear.weight, needs.has(Precision::Fp8)) {
            // As a prepared model stores it.
            (Weight::Fp8(_), _) => (None, Some(linear)),
            (_, true) => {
                let fp8 = quantized(&linear, inputs)?;
                (needs.has(Precision::Bf16).then_some(linear), Some(fp8))
            }
            (_, false) => (Some(linear), None),
        };
        let mut forms = Vec::new();
        for (precision, layer) in [(Precision::Bf16, bf16), (Precision::Fp8, fp8)] {
            let of_precision = |form: &&LayerForm| form.precision == precision;
            let wanted: Vec<LayerForm> = needs.forms.iter().filter(of_precision).copied().collect();
            if let Some(layer) = layer {
                forms.extend(widths(layer, &wanted, &missing)?);
            }
        }
        Ok(Self { forms })
    }
}

/// The layer at each of the widths, which share its weight.
fn widths(
    linear: Linear,
    wanted: &[LayerForm],
    missing: &impl Fn(Kept) -> Result<Vec<f32>>,
) -> Result<Vec<(LayerForm, Linear)>> {
    let [rows, columns] = linear.weight.shape();
    if let [form] = wanted
        && form.is(&LayerForm::whole(form.precision, [rows, columns]))
    {
        return Ok(vec![(*form, linear)]);
    }
    let device = linear.weight.device();
    let bias = linear.bias.as_ref().map(Tensor::to_host).transpose()?;
    let weight = Arc::new(linear.weight);
    let narrowed = |form: &LayerForm| {
        let bias = match &bias {
            None => None,
            Some(bias) => {
                let mut bias = bias.host().to_vec();
                for (bias, more) in bias.iter_mut().zip(missing(form.columns)?) {
                    *bias += more;
                }
                let kept = form.rows.ranges(0..form.rows.count());
                let bias: Vec<f32> = kept.into_iter().flatten().map(|row| bias[row]).collect();
                Some(Tensor::from_host([bias.len()], bias).to_device(&device)?)
            }
        };
        let (of, LayerForm { rows, columns, .. }) = (weight.clone(), *form);
        Ok((*form, Linear { weight: Weight::Part(WeightPart { of, rows, columns }), bias }))
    };
    wanted.iter().map(narrowed).collect()
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
        Weight::Fp8(_) | Weight::Part(_) => {
            let (expected, actual) = ("a whole one in bf16 or f32".into(), "another".into());
            Err(Error::Shape { op: "quantize", tensor: "weight", expected, actual })
        }
    }
}

/// Where names and shapes alone are checked, there are no weights.
pub(super) fn is_empty(linear: &Linear) -> bool {
    linear.weight.shape() == [0, 0]
}

/// The layer with its weight in e4m3, a scale for each output channel, and its input's units taken in.
pub(super) fn quantized(linear: &Linear, inputs: Option<&[f32]>) -> Result<Linear> {
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
        let whole = |precision| LayerForm::whole(precision, [2, 3]);
        assert!(elastic.at(whole(Precision::Bf16)).is_err());
        let Linear { weight: Weight::Fp8(quantized), bias: Some(bias) } =
            elastic.at(whole(Precision::Fp8)).unwrap()
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
    /// A width is a part of the same bytes, with a bias of its own.
    #[test]
    fn widths_share_the_weight() {
        let weight = Tensor::from_host([4, 3], (0_u8..12).map(f32::from).collect());
        let bias = Some(Tensor::from_host([4], vec![1.0, 2.0, 3.0, 4.0]));
        let linear = Linear { weight: Weight::F32(weight), bias };
        let form = |rows, columns| LayerForm { precision: Precision::Bf16, rows, columns };
        let halves = Kept { parts: 2, of: 2, first: 1, rest: 0 };
        let needs = [form(Kept::all(4), Kept::all(3)), form(halves, Kept::all(2))];
        let needs = needs.into_iter().chain(needs).collect();
        let missing = |kept: Kept| Ok(vec![if kept.count() == 2 { 0.5 } else { 0.0 }; 4]);
        let elastic = ElasticLinear::of(linear, &needs, None, missing).unwrap();
        let at = |rows, columns| elastic.at(form(rows, columns)).unwrap();
        let (all, narrow) = (at(Kept::all(4), Kept::all(3)), at(halves, Kept::all(2)));
        assert_eq!(all.bias.as_ref().unwrap().host(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(narrow.bias.as_ref().unwrap().host(), [1.5, 3.5]);
        let (Weight::Part(all), Weight::Part(narrow)) = (&all.weight, &narrow.weight) else {
            panic!("parts of one weight");
        };
        assert!(Arc::ptr_eq(&all.of, &narrow.of));
    }
}
