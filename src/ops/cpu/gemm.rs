//! Oracle of `gemm`.
