//! Typed launchers of the kernels in `kernels/`: checked parameters, one launch, nothing else.
//!
//! The op in `src/ops` has checked how the shapes fit together; a launcher checks what its kernel
//! needs beyond that (multiples, alignment, sizes that fit its parameters) and that every operand
//! lies in CUDA memory, and picks tile and grid. `Params` structs mirror those of the `.cu` files;
//! both sides assert size and offsets.

pub(super) mod add_scaled;
pub(super) mod attention;
pub(super) mod branch;
pub(super) mod conv2d;
pub(super) mod embedding;
pub(super) mod euler_step;
pub(super) mod gated_gelu;
pub(super) mod gemm;
pub(super) mod gemm_qkv;
pub(super) mod groupnorm_silu;
pub(super) mod layernorm;
pub(super) mod layernorm_modulate;
pub(super) mod noise;
pub(super) mod pack;
pub(super) mod quantize;
pub(super) mod quantize_qkv;
pub(super) mod random_normal;
pub(super) mod residual_diff;
pub(super) mod rmsnorm;
pub(super) mod taylor;
mod tile;
pub(super) mod timestamp;
pub(super) mod timestep_embedding;
pub(super) mod to_rgb8;
pub(super) mod upsample;

use crate::device::Act;
use crate::device::Launch;
use crate::device::Matrix;
use crate::device::Work;
use crate::error::Result;
use crate::ops::expect;

/// The tuning tables of all tiers in words.
pub(super) fn tuning_table() -> Vec<String> {
    tile::describe()
}

/// The mirror of a kernel's parameters, with the size and the offsets that the `.cu` file asserts.
macro_rules! kernel_params {
    ($name:ident, $size:literal, { $($offset:literal $field:ident: $type:ty,)* }) => {
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        struct $name {
            $($field: $type,)*
        }
        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(std::mem::offset_of!($name, $field) == $offset);)*
        };
    };
}
pub(crate) use kernel_params;

/// A size as kernels take it.
fn int(op: &'static str, what: &'static str, value: usize) -> Result<i32> {
    i32::try_from(value).or_else(|_| {
        expect(op, what, false, || ("less than 2^31".into(), value.to_string()))?;
        Ok(i32::MAX)
    })
}

/// Fails unless `value` is a multiple of 8: kernels read and write 16 bytes at a time.
fn expect_multiple_of_8(op: &'static str, what: &'static str, value: usize) -> Result<()> {
    expect(op, what, value.is_multiple_of(8), || ("a multiple of 8".into(), value.to_string()))
}

/// Fails unless `address` may be read 16 bytes at a time. 0 stands for an operand that is not there.
fn expect_aligned(op: &'static str, what: &'static str, address: u64) -> Result<()> {
    expect(op, what, address.is_multiple_of(16), || {
        ("an address that is a multiple of 16".into(), format!("{address:#x}"))
    })
}

/// Fails unless the rows lie one right behind the other, as kernels that see no rows need it.
fn expect_contiguous(op: &'static str, what: &'static str, matrix: Matrix<'_, Act>) -> Result<()> {
    let ([rows, columns], stride) = (matrix.shape(), matrix.stride());
    expect(op, what, rows <= 1 || stride == columns, || {
        (format!("rows of {columns} behind one another"), format!("a row every {stride}"))
    })
}

/// Blocks that cover `count` elements, `each` a block.
fn blocks(op: &'static str, count: usize, each: usize) -> Result<u32> {
    Ok(int(op, "grid", count.div_ceil(each))?.unsigned_abs())
}

/// A grid of one dimension without dynamic shared memory.
fn linear_grid(blocks: u32, threads: u32) -> Launch {
    Launch { grid: [blocks, 1, 1], threads, smem_bytes: 0, work: Work::None }
}

/// A grid of one dimension whose blocks of 256 threads each cover 2,048 of `count` elements.
fn elementwise_grid(op: &'static str, count: usize) -> Result<Launch> {
    Ok(linear_grid(blocks(op, count, 2048)?, 256))
}

/// A grid of `blocks_x` blocks to each of `rows`, which lie along y: a card takes 65,535 there.
fn row_grid(
    op: &'static str,
    what: &'static str,
    blocks_x: u32,
    rows: usize,
    threads: u32,
) -> Result<Launch> {
    let most = usize::from(u16::MAX);
    expect(op, what, rows <= most, || (format!("at most {most}"), rows.to_string()))?;
    Ok(Launch {
        grid: [blocks_x, blocks(op, rows, 1)?, 1],
        threads,
        smem_bytes: 0,
        work: Work::None,
    })
}
