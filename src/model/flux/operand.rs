//! Buffers between one linear layer and the next, in the precisions that plans ask for.

use std::ops::Range;

use crate::device::Act;
use crate::device::Device;
use crate::device::Input;
use crate::device::Output;
use crate::device::Quantized;
use crate::device::QuantizedQkv;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::model::plan::BlockPlans;
use crate::model::plan::BlockSizes;
use crate::model::plan::Precision;
use crate::model::weights::units::Units;
use crate::ops::attention::Mask;
use crate::ops::attention::attention;
use crate::ops::attention::attention_fp8;
use crate::ops::gemm_qkv::QkvOutput;

/// What a linear layer reads.
#[derive(Debug)]
pub struct Operand {
    /// `[S, K]`.
    pub act: Tensor<Act, 2>,
    /// `[S, K]` with a scale a row, if a plan asks for it.
    fp8: Option<Quantized>,
}

impl Operand {
    pub(super) fn new(device: &Device, shape: [usize; 2], fp8: bool) -> Result<Self> {
        let quantized = || Quantized::empty(device, shape, Scaling::Row);
        Ok(Self { act: Tensor::empty(device, shape)?, fp8: fp8.then(quantized).transpose()? })
    }

    pub(super) fn write(&mut self, precision: Precision) -> Result<Output<'_>> {
        match precision {
            Precision::Bf16 => Ok(self.act.matrix_mut().into()),
            Precision::Fp8 => Ok(self.fp8.as_mut().ok_or_else(no_buffer)?.view_mut().into()),
        }
    }

    pub(super) fn read(&self, precision: Precision) -> Result<Input<'_>> {
        match precision {
            Precision::Bf16 => Ok(self.act.matrix().into()),
            Precision::Fp8 => Ok(self.fp8.as_ref().ok_or_else(no_buffer)?.view().into()),
        }
    }
}

/// The attention's output and the MLP's hidden layer side by side, as linear2 reads them, without gaps
/// where a block leaves out heads or neurons.
#[derive(Debug)]
pub struct AttentionMlp {
    /// `[S, D + M]`.
    pub act: Tensor<Act, 2>,
    /// The same in e4m3 and in units, if a plan asks for it.
    fp8: Option<Quantized>,
}

impl AttentionMlp {
    pub(super) fn new(
        device: &Device,
        seq: usize,
        [hidden, mlp]: [usize; 2],
        fp8: bool,
    ) -> Result<Self> {
        let shape = [seq, hidden + mlp];
        let quantized = || Quantized::empty(device, shape, Scaling::Units);
        Ok(Self { act: Tensor::empty(device, shape)?, fp8: fp8.then(quantized).transpose()? })
    }

    /// The attention's part.
    pub(super) fn write_attention<'a>(
        &'a mut self,
        precision: Precision,
        sizes: BlockSizes,
        units: Option<&'a Units>,
    ) -> Result<Output<'a>> {
        let columns = 0..sizes.attention;
        self.write(precision, columns, units.map(|units| &units.attention))
    }

    /// The MLP's part.
    pub(super) fn write_mlp<'a>(
        &'a mut self,
        precision: Precision,
        sizes: BlockSizes,
        units: Option<&'a Units>,
    ) -> Result<Output<'a>> {
        let columns = sizes.attention..sizes.attention + sizes.mlp;
        self.write(precision, columns, units.map(|units| &units.mlp))
    }

    fn write<'a>(
        &'a mut self,
        precision: Precision,
        columns: Range<usize>,
        units: Option<&'a Tensor<f32, 1>>,
    ) -> Result<Output<'a>> {
        let act = self.act.matrix_mut().columns(columns.clone());
        match precision {
            Precision::Bf16 => Ok(act.into()),
            Precision::Fp8 => Ok(Output::Fp8 {
                out: self.fp8.as_mut().ok_or_else(no_buffer)?.view_mut().columns(columns),
                units: Some(units.ok_or_else(no_buffer)?),
                staging: Some(act),
            }),
        }
    }

    /// The attention's part.
    pub(super) fn attention(&self, precision: Precision, sizes: BlockSizes) -> Result<Input<'_>> {
        self.read(precision, 0..sizes.attention)
    }

    /// The MLP's part.
    pub(super) fn mlp(&self, precision: Precision, sizes: BlockSizes) -> Result<Input<'_>> {
        self.read(precision, sizes.attention..sizes.attention + sizes.mlp)
    }

    /// Both.
    pub(super) fn both(&self, precision: Precision, sizes: BlockSizes) -> Result<Input<'_>> {
        self.read(precision, 0..sizes.attention + sizes.mlp)
    }

    fn read(&self, precision: Precision, columns: Range<usize>) -> Result<Input<'_>> {
        match precision {
            Precision::Bf16 => Ok(self.act.matrix().columns(columns).into()),
            Precision::Fp8 => {
                let whole = self.fp8.as_ref().ok_or_else(no_buffer)?.view();
                Ok(whole.columns(columns).into())
            }
        }
    }
}

/// What attentions read, for each number of heads that a plan asks for.
#[derive(Debug)]
pub struct Qkvs {
    /// By their heads.
    pub by_heads: Vec<(usize, Qkv)>,
}

impl Qkvs {
    pub(super) fn new(
        device: &Device,
        seq: usize,
        full: BlockSizes,
        plan: &BlockPlans,
    ) -> Result<Self> {
        let mut heads: Vec<usize> =
            plan.widths().into_iter().map(|width| full.narrowed(width).heads).collect();
        heads.sort_unstable();
        heads.dedup();
        let (head_dim, fp8) = (full.hidden / full.heads, plan.has_fp8_attention());
        let of = |heads| Ok((heads, Qkv::new(device, [seq, heads, head_dim], fp8)?));
        Ok(Self { by_heads: heads.into_iter().map(of).collect::<Result<_>>()? })
    }

    /// Of so many heads.
    pub(super) fn of(&mut self, heads: usize) -> Result<&mut Qkv> {
        let found = self.by_heads.iter_mut().find(|(of, _)| *of == heads);
        found.map(|(_, qkv)| qkv).ok_or_else(no_buffer)
    }
}

/// What an attention reads.
#[derive(Debug)]
pub struct Qkv {
    /// `[S, 3, H, Dh]`.
    pub act: Tensor<Act, 4>,
    /// The same in e4m3, if a plan asks for it.
    fp8: Option<QuantizedQkv>,
}

impl Qkv {
    fn new(device: &Device, [seq, heads, head_dim]: [usize; 3], fp8: bool) -> Result<Self> {
        let quantized = || QuantizedQkv::empty(device, [seq, heads, head_dim]);
        Ok(Self {
            act: Tensor::empty(device, [seq, 3, heads, head_dim])?,
            fp8: fp8.then(quantized).transpose()?,
        })
    }

    /// `bounds` are those of q and k.
    pub(super) fn write<'a>(
        &'a mut self,
        bounds: [f32; 2],
        units: Option<&'a Units>,
        precision: Precision,
    ) -> Result<QkvOutput<'a>> {
        let Self { act, fp8 } = self;
        match precision {
            Precision::Bf16 => Ok(act.into()),
            Precision::Fp8 => {
                let out = fp8.as_mut().ok_or_else(no_buffer)?;
                let v_units = &units.ok_or_else(no_buffer)?.v;
                Ok(QkvOutput::Fp8 { out, staging: act, bounds, v_units })
            }
        }
    }

    /// `out [S, D]` from what was written.
    pub(super) fn attention(
        &self,
        out: Output<'_>,
        units: Option<&Units>,
        scale: f32,
        precision: Precision,
    ) -> Result<()> {
        match precision {
            Precision::Bf16 => attention(out, &self.act, Mask::None, scale),
            Precision::Fp8 => {
                let qkv = self.fp8.as_ref().ok_or_else(no_buffer)?;
                attention_fp8(out, qkv, &units.ok_or_else(no_buffer)?.v, scale)
            }
        }
    }
}

/// A workspace or weights for another plan were given: a bug of the caller.
fn no_buffer() -> Error {
    Error::Shape {
        op: "flux",
        tensor: "workspace",
        expected: "buffers and units for the plan's precisions and widths".into(),
        actual: "none".into(),
    }
}
