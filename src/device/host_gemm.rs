//! The CPU matrix product: a safe face for the `gemm` crate.
#![expect(unsafe_code, reason = "the gemm crate takes raw pointers and strides")]

use crate::device::Matrix;
use crate::device::MatrixMut;

/// Which operand layout the product reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transpose {
    /// `b` is `[K, N]`.
    No,
    /// `b` is `[N, K]`, as linear layers store it.
    Yes,
}

/// What becomes of what `out` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// It is overwritten.
    New,
    /// The product is added to it.
    Add,
}

/// `out [M, N] = scale * a [M, K] * b` in f32, or that added to `out`, on all threads of the current rayon pool.
///
/// # Panics
/// If the three shapes do not fit together: a bug of the caller.
pub fn host_gemm(
    out: &mut MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
    transpose: Transpose,
    scale: f32,
    sum: Sum,
) {
    let [m, n] = out.shape();
    let [a_rows, k] = a.shape();
    let expected_b = if transpose == Transpose::Yes { [n, k] } else { [k, n] };
    assert!(a_rows == m && b.shape() == expected_b, "gemm operands do not fit together");
    if m == 0 || n == 0 {
        return;
    }
    let signed = |stride: usize| isize::try_from(stride).expect("a stride fits in isize");
    let (b_row, b_col) = match transpose {
        Transpose::No => (signed(b.stride()), 1),
        Transpose::Yes => (1, signed(b.stride())),
    };
    let (out_stride, a_stride) = (signed(out.stride()), signed(a.stride()));
    // Below about a million multiply-adds the threads cost more than they bring.
    let parallelism =
        if m * n * k < 1 << 20 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(0) };
    // SAFETY: the views hold every element that [M, N], [M, K] and `b` reach with these strides
    // (Matrix and MatrixMut check that where they are made), the shapes were compared above, and
    // `out` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.host_mut().as_mut_ptr(),
            1,
            out_stride,
            sum == Sum::Add,
            a.host().as_ptr(),
            1,
            a_stride,
            b.host().as_ptr(),
            b_col,
            b_row,
            if sum == Sum::Add { 1.0 } else { 0.0 },
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "small whole numbers are exact")]
    fn products_with_strides_and_both_layouts() {
        // a = columns 1..3 of [2, 4]; hand-worked.
        let a = [9.0, 1.0, 2.0, 9.0, 9.0, 3.0, 4.0, 9.0];
        let a = Matrix::<f32>::new(&a, 2, 4).columns(1..3);
        let b = [5.0, 6.0, 7.0, 8.0];
        let b = Matrix::<f32>::new(&b, 2, 2);
        let mut out = [0.0; 6];
        let mut view = MatrixMut::<f32>::new(&mut out, 2, 3).columns(0..2);
        host_gemm(&mut view, a, b, Transpose::No, 1.0, Sum::New);
        assert_eq!(out, [19.0, 22.0, 0.0, 43.0, 50.0, 0.0]);
        let mut view = MatrixMut::<f32>::new(&mut out, 2, 3).columns(1..3);
        host_gemm(&mut view, a, b, Transpose::Yes, 2.0, Sum::New);
        assert_eq!(out, [19.0, 34.0, 46.0, 43.0, 78.0, 106.0]);
        let mut view = MatrixMut::<f32>::new(&mut out, 2, 3).columns(0..2);
        host_gemm(&mut view, a, b, Transpose::No, 1.0, Sum::Add);
        assert_eq!(out, [38.0, 56.0, 46.0, 86.0, 128.0, 106.0]);
    }
}
