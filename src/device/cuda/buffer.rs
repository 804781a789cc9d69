//! A piece of device memory: taken from the arena, given back when dropped.
#![expect(unsafe_code, reason = "copies between host and device memory")]

use std::ptr;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::result;
use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::check;
use crate::device::cuda::driver_error;
use crate::device::cuda::make_current;
use crate::error::Result;

/// Device memory for a number of elements.
///
/// Dropping it hands the memory to the next user at once, although kernels that use it may still
/// be waiting in the stream: the next user's kernels are behind them in the same stream.
#[derive(Debug)]
pub(crate) struct Buffer {
    cuda: Arc<Cuda>,
    address: u64,
    bytes: usize,
}

impl Buffer {
    /// Memory with undefined content.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(crate) fn new(cuda: &Arc<Cuda>, bytes: usize) -> Result<Self> {
        let address = cuda.allocate(bytes)?;
        Ok(Self { cuda: Arc::clone(cuda), address, bytes })
    }

    /// The GPU it lies on.
    pub(crate) fn cuda(&self) -> &Arc<Cuda> {
        &self.cuda
    }

    /// Its first byte, a multiple of 256.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies to the host, after all work before it.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    ///
    /// # Panics
    /// If `target` has not exactly as many bytes: a bug of the caller.
    pub(crate) fn download<T: Pod>(&self, target: &mut [T]) -> Result<()> {
        assert_eq!(size_of_val(target), self.bytes, "a download takes its whole buffer");
        self.cuda.synchronize()?;
        // SAFETY: the range is this buffer's and no kernel is running; the copy is over on return.
        unsafe { result::memcpy_dtoh_sync(target, self.address) }
            .map_err(|error| driver_error("cuMemcpyDtoH", error))
    }
}

impl Cuda {
    /// Copies rows between two places in device memory, in stream order: `addresses`, `pitches` (bytes
    /// from row to row) are target then source, `size` is rows and bytes of a row.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub(crate) fn copy_rows(
        &self,
        addresses: [u64; 2],
        pitches: [usize; 2],
        size: [usize; 2],
    ) -> Result<()> {
        let [rows, bytes] = size;
        if rows == 0 || bytes == 0 {
            return Ok(());
        }
        make_current(self.context)?;
        if pitches == [bytes; 2] || rows == 1 {
            // The driver's plain copy: the other one is up to 1.7 times as slow on rows in a row.
            // SAFETY: as below.
            let copied = unsafe {
                result::memcpy_dtod_async(addresses[0], addresses[1], rows * bytes, self.stream())
            };
            return copied.map_err(|error| driver_error("cuMemcpyDtoDAsync", error));
        }
        let copy = sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            srcHost: ptr::null(),
            srcDevice: addresses[1],
            srcArray: ptr::null_mut(),
            srcPitch: pitches[1],
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            dstHost: ptr::null_mut(),
            dstDevice: addresses[0],
            dstArray: ptr::null_mut(),
            dstPitch: pitches[0],
            WidthInBytes: bytes,
            Height: rows,
        };
        // SAFETY: both ranges come from views that were checked against their buffers; the driver
        // reads the description before it returns.
        check("cuMemcpy2DAsync", unsafe { sys::cuMemcpy2DAsync_v2(&copy, self.stream()) })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.cuda.free(self.address, self.bytes);
    }
}
