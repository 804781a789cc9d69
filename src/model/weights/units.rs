//! In which units outputs of layers are kept in e4m3.

use std::ops::Range;

use crate::device::Device;
use crate::device::Quantized;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::device::e4m3;
use crate::error::Result;
use crate::model::plan::BlockSizes;
use crate::model::weights::elastic::as_act;
use crate::model::weights::elastic::is_empty;
use crate::model::weights::tensor_source::TensorSource;
use crate::ops::gemm::Linear;
use crate::ops::quantize::quantize;

/// In which units a layer's output is kept in e4m3.
///
/// A unit is a power of two near the output's standard deviation for inputs of root mean square 1, as
/// LayerNorm leaves them, told from the weight alone. e4m3 has its three bits from 1/64 to 448 units:
/// where exactly a number lies there changes nothing, so nothing has to be measured for each picture.
#[derive(Debug)]
pub struct Units {
    /// `[D]`: of v.
    pub v: Tensor<f32, 1>,
    /// `[D]`: of the attention's output, a mean of v, and so the smaller the more keys it is of.
    pub attention: Tensor<f32, 1>,
    /// `[M]`: of the MLP's hidden layer.
    pub mlp: Tensor<f32, 1>,
}

/// Those of a block at each width that is loaded.
#[derive(Debug, Default)]
pub struct ElasticUnits {
    widths: Vec<(BlockSizes, Units)>,
}

impl From<(BlockSizes, Units)> for ElasticUnits {
    /// At one width alone.
    fn from(of_width: (BlockSizes, Units)) -> Self {
        Self { widths: vec![of_width] }
    }
}

impl ElasticUnits {
    /// At a width; none where no plan keeps anything in e4m3.
    #[must_use]
    pub fn at(&self, sizes: &BlockSizes) -> Option<&Units> {
        self.widths.iter().find(|(of, _)| of == sizes).map(|(_, units)| units)
    }

    /// Those of the first width that is loaded.
    #[must_use]
    pub fn first(&self) -> Option<&Units> {
        self.widths.first().map(|(_, units)| units)
    }

    /// On the device of `near`.
    pub(super) fn placed(
        units: Option<&HostUnits>,
        source: &mut impl TensorSource,
        near: &Linear,
        widths: &[BlockSizes],
    ) -> Result<Self> {
        let Some(units) = units else { return Ok(Self::default()) };
        let at = |sizes: &BlockSizes| Ok((*sizes, units.placed(source, near, sizes)?));
        Ok(Self { widths: widths.iter().map(at).collect::<Result<_>>()? })
    }
}

/// The same while weights are loaded.
pub(super) struct HostUnits {
    pub(super) v: Vec<f32>,
    pub(super) mlp: Vec<f32>,
}

impl HostUnits {
    /// A quarter of v's.
    pub(super) fn attention(&self) -> Vec<f32> {
        self.v.iter().map(|unit| ATTENTION_UNIT * unit).collect()
    }

    fn placed(
        &self,
        source: &mut impl TensorSource,
        near: &Linear,
        sizes: &BlockSizes,
    ) -> Result<Units> {
        Ok(Units {
            v: source.constants(&self.v[..sizes.attention], near)?,
            attention: source.constants(&self.attention()[..sizes.attention], near)?,
            mlp: source.constants(&self.mlp[..sizes.mlp], near)?,
        })
    }
}

/// Attention's units by v's.
const ATTENTION_UNIT: f32 = 0.25;
/// A normal weight row's largest magnitude by its standard deviation, of some thousand weights.
const LARGEST_BY_DEVIATION: f32 = 3.7;

/// The units of the outputs `rows` of layers that take turns: the larger ones.
pub(super) fn units(linears: &[&Linear], rows: Range<usize>) -> Result<Vec<f32>> {
    let mut sizes = vec![f32::MIN_POSITIVE; rows.len()];
    for linear in linears.iter().filter(|linear| !is_empty(linear)) {
        let [_, columns] = linear.weight.shape();
        let mut wide = Vec::new();
        let weight = as_act(&linear.weight, &mut wide)?.rows(rows.clone());
        let mut values = Quantized::empty(&linear.weight.device(), weight.shape(), Scaling::Row)?;
        quantize(values.view_mut(), weight, None)?;
        let scales = values.to_device(&Device::Cpu)?;
        let by_scale = e4m3::MAX / LARGEST_BY_DEVIATION * (columns as f32).sqrt();
        for (size, scale) in sizes.iter_mut().zip(scales.view().scales.row(0)) {
            *size = size.max(scale * by_scale);
        }
        if let Some(bias) = &linear.bias {
            let bias = bias.to_host()?;
            for (size, bias) in sizes.iter_mut().zip(&bias.host()[rows.clone()]) {
                *size = size.max(bias.abs());
            }
        }
    }
    Ok(sizes.into_iter().map(|size| size.log2().floor().exp2()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gemm::Weight;

    #[test]
    fn units_are_powers_of_two_near_the_outputs_size() {
        let linear = |size: f32, bias: f32| Linear {
            weight: Weight::F32(Tensor::from_host([2, 4], [[0.1; 4], [size; 4]].concat())),
            bias: Some(Tensor::from_host([2], vec![0.0, bias])),
        };
        // 1 * sqrt(4) / 3.7 is 0.54.
        let of = |linears: &[&Linear]| units(linears, 1..2).unwrap();
        assert_eq!(of(&[&linear(1.0, 0.0)]), [0.5]);
        assert_eq!(of(&[&linear(1.0, 0.0), &linear(2.0, 0.1)]), [1.0]);
        assert_eq!(of(&[&linear(0.0, 5.0)]), [4.0]);
        assert!(of(&[&linear(0.0, 0.0)])[0] > 0.0);
    }
}
