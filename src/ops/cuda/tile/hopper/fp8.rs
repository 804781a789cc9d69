//! The tuning table of kernels over e4m3, from measurements on an H100 beside cuBLASLt at FLUX's shapes.

use crate::ops::cuda::tile::hopper::HopperTile;

/// Of `gemm` over e4m3 with a scale for each row, to bf16.
pub(in crate::ops::cuda) const FP8_ROW: [HopperTile; 3] = [
    HopperTile {
        kernel: "gemm_fp8_sm90_128x256_row",
        rows: 128,
        columns: 256,
        stages: 4,
        smem_bytes: 232_096,
        chunk_columns: 64,
        raster_rows: 12,
        activations: &[],
        finishing: [480, 730],
        reason: "least bytes a product",
    },
    HopperTile {
        kernel: "gemm_fp8_sm90_128x192_row",
        rows: 128,
        columns: 192,
        stages: 4,
        smem_bytes: 217_296,
        chunk_columns: 64,
        raster_rows: 9,
        activations: &[],
        finishing: [100, 900],
        reason: "its consumers take turns: one finishes while the other multiplies",
    },
    HopperTile {
        kernel: "gemm_fp8_sm90_256x144_row",
        rows: 256,
        columns: 144,
        stages: 4,
        smem_bytes: 231_712,
        chunk_columns: 48,
        raster_rows: 9,
        activations: &[],
        finishing: [430, 1070],
        reason: "covers 4608 x 3072 in exactly three waves of 132 blocks",
    },
];

/// Of the same with GELU, to e4m3 in units.
pub(in crate::ops::cuda) const FP8_GELU: [HopperTile; 1] = [HopperTile {
    kernel: "gemm_fp8_sm90_128x192_gelu",
    rows: 128,
    columns: 192,
    stages: 4,
    smem_bytes: 194_224,
    chunk_columns: 96,
    raster_rows: 9,
    activations: &[],
    finishing: [0, 0],
    reason: "its consumers take turns: GELU and quantising are hidden",
}];

/// Of `gemm_qkv` over e4m3.
pub(in crate::ops::cuda) const FP8_QKV: HopperTile = HopperTile {
    kernel: "gemm_qkv_fp8_sm90_128x256_bf16",
    rows: 128,
    columns: 256,
    stages: 4,
    smem_bytes: 232_096,
    chunk_columns: 64,
    raster_rows: 12,
    activations: &[],
    finishing: [0, 0],
    reason: "two whole heads, so that a row's norm is in four neighbouring lanes",
};

/// Of `attention` over e4m3, to bf16; keys are also what a bulk copy brings of a channel of v.
pub(in crate::ops::cuda) const FP8_ATTENTION: HopperTile = HopperTile {
    kernel: "attention_fp8_sm90_d128",
    rows: 128,
    columns: 128,
    stages: 8,
    smem_bytes: 225_424,
    chunk_columns: 128,
    raster_rows: 1,
    activations: &[],
    finishing: [0, 0],
    reason: "as for bf16; every 1,024 keys' sums go to f32 ones in shared memory",
};
