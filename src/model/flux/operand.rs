//! Buffers between one linear layer and the next, in the precisions that plans ask for.

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
use crate::model::plan::Precision;
use crate::model::weights::elastic::aligned;
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

/// The attention's output and the MLP's hidden layer side by side, as linear2 reads them.
#[derive(Debug)]
pub struct AttentionMlp {
    /// `[S, D + M]`.
    pub act: Tensor<Act, 2>,
    /// `[S, aligned(D) + M]` with scales of blocks, if a plan asks for it; zeros between the two.
    fp8: Option<Quantized>,
    /// D.
    hidden: usize,
}

impl AttentionMlp {
    pub(super) fn new(
        device: &Device,
        seq: usize,
        [hidden, mlp]: [usize; 2],
        fp8: bool,
    ) -> Result<Self> {
        let quantized = || Quantized::zeros([seq, aligned(hidden) + mlp], Scaling::Block);
        Ok(Self {
            act: Tensor::empty(device, [seq, hidden + mlp])?,
            fp8: fp8.then(|| quantized().to_device(device)).transpose()?,
            hidden,
        })
    }

    /// The attention's part.
    pub(super) fn write_attention(&mut self, precision: Precision) -> Result<Output<'_>> {
        let columns = 0..self.hidden;
        match precision {
            Precision::Bf16 => Ok(self.act.matrix_mut().columns(columns).into()),
            Precision::Fp8 => {
                let out = self.fp8.as_mut().ok_or_else(no_buffer)?.view_mut();
                let staging = self.act.matrix_mut().columns(columns.clone());
                Ok(Output::Fp8 { out: out.columns(columns), staging: Some(staging) })
            }
        }
    }

    /// The MLP's part.
    pub(super) fn write_mlp(&mut self, precision: Precision) -> Result<Output<'_>> {
        match precision {
            Precision::Bf16 => {
                let [_, end] = self.act.shape();
                Ok(self.act.matrix_mut().columns(self.hidden..end).into())
            }
            Precision::Fp8 => {
                let out = self.fp8.as_mut().ok_or_else(no_buffer)?.view_mut();
                let [[_, end], [_, act_end]] = [out.shape(), self.act.shape()];
                let staging = self.act.matrix_mut().columns(self.hidden..act_end);
                let out = out.columns(aligned(self.hidden)..end);
                Ok(Output::Fp8 { out, staging: Some(staging) })
            }
        }
    }

    /// The attention's part.
    pub(super) fn attention(&self, precision: Precision) -> Result<Input<'_>> {
        let columns = 0..self.hidden;
        match precision {
            Precision::Bf16 => Ok(self.act.matrix().columns(columns).into()),
            Precision::Fp8 => Ok(self.fp8()?.view().columns(columns).into()),
        }
    }

    /// The MLP's part.
    pub(super) fn mlp(&self, precision: Precision) -> Result<Input<'_>> {
        match precision {
            Precision::Bf16 => {
                let [_, end] = self.act.shape();
                Ok(self.act.matrix().columns(self.hidden..end).into())
            }
            Precision::Fp8 => {
                let whole = self.fp8()?.view();
                let [_, end] = whole.shape();
                Ok(whole.columns(aligned(self.hidden)..end).into())
            }
        }
    }

    /// Both.
    pub(super) fn both(&self, precision: Precision) -> Result<Input<'_>> {
        match precision {
            Precision::Bf16 => Ok(self.act.matrix().into()),
            Precision::Fp8 => Ok(self.fp8()?.view().into()),
        }
    }

    fn fp8(&self) -> Result<&Quantized> {
        self.fp8.as_ref().ok_or_else(no_buffer)
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
    pub(super) fn new(
        device: &Device,
        [seq, heads, head_dim]: [usize; 3],
        fp8: bool,
    ) -> Result<Self> {
        let quantized = || QuantizedQkv::empty(device, [seq, heads, head_dim]);
        Ok(Self {
            act: Tensor::empty(device, [seq, 3, heads, head_dim])?,
            fp8: fp8.then(quantized).transpose()?,
        })
    }

    /// `bounds` are those of q and k.
    pub(super) fn write(
        &mut self,
        bounds: [f32; 2],
        precision: Precision,
    ) -> Result<QkvOutput<'_>> {
        let Self { act, fp8 } = self;
        match precision {
            Precision::Bf16 => Ok(act.into()),
            Precision::Fp8 => {
                let out = fp8.as_mut().ok_or_else(no_buffer)?;
                Ok(QkvOutput::Fp8 { out, staging: act, bounds })
            }
        }
    }

    /// `out [S, D]` from what was written.
    pub(super) fn attention(
        &self,
        out: Output<'_>,
        scale: f32,
        precision: Precision,
    ) -> Result<()> {
        match precision {
            Precision::Bf16 => attention(out, &self.act, Mask::None, scale),
            Precision::Fp8 => attention_fp8(out, self.fp8.as_ref().ok_or_else(no_buffer)?, scale),
        }
    }
}

/// A workspace for a plan without fp8 was given one with it: a bug of the caller.
fn no_buffer() -> Error {
    Error::Shape {
        op: "flux",
        tensor: "workspace",
        expected: "buffers in e4m3".into(),
        actual: "none".into(),
    }
}
