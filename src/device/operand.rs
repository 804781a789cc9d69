//! What a linear layer reads and where it, or what feeds the next one, writes: activations, or
//! activations quantised to e4m3.

use std::ops::Range;

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::QuantizedMut;
use crate::device::QuantizedRef;
use crate::device::Tensor;
use crate::error::Error;

/// A matrix that a linear layer multiplies.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// As it is.
    Act(Matrix<'a, Act>),
    /// Quantised by whoever wrote it.
    Fp8(QuantizedRef<'a>),
}

/// A matrix to write.
#[derive(Debug)]
pub enum Output<'a> {
    /// As it is.
    Act(MatrixMut<'a, Act>),
    /// Quantised once it is finished.
    Fp8 {
        /// What is written.
        out: QuantizedMut<'a>,
        /// `[N]`, powers of two: what is divided by before rounding; none where whoever writes finds
        /// a scale for each row.
        units: Option<&'a Tensor<f32, 1>>,
        /// Of the same shape: where a kernel that cannot quantise by itself leaves what is quantised
        /// then.
        staging: Option<MatrixMut<'a, Act>>,
    },
}

impl<'a> From<Matrix<'a, Act>> for Input<'a> {
    fn from(matrix: Matrix<'a, Act>) -> Self {
        Self::Act(matrix)
    }
}

impl<'a> From<QuantizedRef<'a>> for Input<'a> {
    fn from(matrix: QuantizedRef<'a>) -> Self {
        Self::Fp8(matrix)
    }
}

impl<'a> From<MatrixMut<'a, Act>> for Output<'a> {
    fn from(matrix: MatrixMut<'a, Act>) -> Self {
        Self::Act(matrix)
    }
}

impl<'a> From<QuantizedMut<'a>> for Output<'a> {
    fn from(matrix: QuantizedMut<'a>) -> Self {
        Self::Fp8 { out: matrix, units: None, staging: None }
    }
}

/// Which cards compute in e4m3.
pub(crate) const FP8_CARDS: &str =
    "fp8 takes a GPU of compute capability 8.9 or newer (Ada, Hopper, Blackwell)";

/// No kernel of this GPU takes these operands in e4m3.
pub(crate) fn no_fp8(op: &str) -> Error {
    let reason = format!(
        "{op}: expected operands in bf16, found e4m3, for which this program has no such kernel on \
         this GPU: {FP8_CARDS}; modes original and XL work everywhere"
    );
    Error::Device { reason }
}

impl Input<'_> {
    /// `[M, K]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Act(matrix) => matrix.shape(),
            Self::Fp8(matrix) => matrix.shape(),
        }
    }

    /// The rows `rows` only.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Act(matrix) => Self::Act(matrix.rows(rows)),
            Self::Fp8(matrix) => Self::Fp8(matrix.rows(rows)),
        }
    }
}

impl<'a> Output<'a> {
    /// `[M, N]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Act(matrix) => matrix.shape(),
            Self::Fp8 { out, .. } => out.shape(),
        }
    }

    /// Where the elements live.
    #[must_use]
    pub fn device(&self) -> Device {
        match self {
            Self::Act(matrix) => matrix.device(),
            Self::Fp8 { out, .. } => out.values.device(),
        }
    }

    /// A shorter-lived view of the same elements.
    pub fn reborrow(&mut self) -> Output<'_> {
        match self {
            Self::Act(matrix) => Output::Act(matrix.reborrow()),
            Self::Fp8 { out, units, staging } => Output::Fp8 {
                out: out.reborrow(),
                units: *units,
                staging: staging.as_mut().map(MatrixMut::reborrow),
            },
        }
    }

    /// The rows `rows` only.
    #[must_use]
    pub fn rows(self, rows: Range<usize>) -> Self {
        match self {
            Self::Act(matrix) => Self::Act(matrix.rows(rows)),
            Self::Fp8 { out, units, staging } => Self::Fp8 {
                out: out.rows(rows.clone()),
                units,
                staging: staging.map(|staging| staging.rows(rows)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_fp8_learns_which_cards_and_which_modes() {
        let text = no_fp8("gemm").to_string();
        for part in ["gemm", "8.9 or newer", "Ada", "modes original and XL"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
