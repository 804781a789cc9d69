//! Tensor maps: what a Hopper kernel's bulk copies (TMA) know of a tensor in global memory.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use cudarc::driver::sys;

use crate::device::Act;
use crate::device::Element;
use crate::device::cuda::Cuda;
use crate::device::cuda::driver::call;
use crate::error::Result;

/// A map as kernels take it, a member of their parameters.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct TensorMap([u64; 16]);

/// How rows of a copy lie in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swizzle {
    /// One behind the other.
    None,
    /// Rows of 64 bytes, in which the 16-byte parts are exchanged by half the row's number modulo 4.
    Bytes64,
    /// Rows of 128 bytes, in which the 16-byte parts are exchanged by the row's number modulo 8.
    Bytes128,
}

/// What a map's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapElement {
    /// e4m3, of which copies know the size alone.
    Byte,
    /// bf16.
    Bf16,
}

impl MapElement {
    /// Bytes of one.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Bf16 => 2,
        }
    }
}

/// Elements that bulk copies move.
pub(crate) trait Mapped: Element {
    /// What maps call it.
    const ELEMENT: MapElement;
}

impl Mapped for Act {
    const ELEMENT: MapElement = MapElement::Bf16;
}

impl Mapped for u8 {
    const ELEMENT: MapElement = MapElement::Byte;
}

/// A tensor as a map sees it, innermost dimension first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MapLayout<const R: usize> {
    /// What it is a tensor of.
    pub(crate) element: MapElement,
    /// Of the first element; a multiple of 16.
    pub(crate) address: u64,
    /// Elements. What is outside reads as 0 and is not written.
    pub(crate) sizes: [usize; R],
    /// Elements from one to the next; the first is 1, the others are multiples of 16 bytes.
    pub(crate) strides: [usize; R],
    /// Elements of a copy: at most 256 of a dimension, of the innermost 128 bytes where it is swizzled.
    pub(crate) tile: [usize; R],
    /// How a copy lies in shared memory.
    pub(crate) swizzle: Swizzle,
}

impl Cuda {
    /// The map of a tensor.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for what the driver refuses: an address or a stride that is no multiple of
    /// 16 bytes, a tile too large.
    pub(crate) fn tensor_map<const R: usize>(&self, layout: &MapLayout<R>) -> Result<TensorMap> {
        self.make_current()?;
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let MapLayout { element, address, sizes, strides, tile, swizzle } = *layout;
        let tile = tile.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let swizzle = match swizzle {
            Swizzle::None => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
            Swizzle::Bytes64 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_64B,
            Swizzle::Bytes128 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
        };
        let size = element.size();
        let element = match element {
            MapElement::Byte => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT8,
            MapElement::Bf16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        };
        let sizes = sizes.map(|size| size as u64);
        // In bytes, and without that of the innermost dimension.
        let strides = strides.map(|stride| (size * stride) as u64);
        let steps = [1; R];
        // SAFETY: writes the map, reads R sizes, R - 1 strides, R tile sizes and R steps; nothing of the
        // tensor itself is touched.
        unsafe {
            call!(
                self.driver,
                cuTensorMapEncodeTiled(
                    &mut map,
                    element,
                    u32::try_from(R).unwrap_or_default(),
                    address as *mut std::ffi::c_void,
                    sizes.as_ptr(),
                    strides[1..].as_ptr(),
                    tile.as_ptr(),
                    steps.as_ptr(),
                    sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                    swizzle,
                    sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                    sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
                )
            )
        }?;
        Ok(TensorMap(map.opaque))
    }
}
