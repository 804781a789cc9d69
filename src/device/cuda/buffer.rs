//! A piece of device memory: taken from the arena, given back when dropped.
#![expect(unsafe_code, reason = "copies between host and device memory")]

use std::ptr;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver::call;
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
        let target = target.as_mut_ptr().cast();
        // SAFETY: `target` is as long as this buffer, which was checked above, and no kernel is
        // running; the copy is over on return.
        unsafe { call!(self.cuda.driver, cuMemcpyDtoH_v2(target, self.address, self.bytes)) }
    }
}

impl Cuda {
    /// Copies rows between two places in device memory, in stream order: addresses and `pitches`
    /// (bytes from row to row) are target then source, `size` is rows and bytes of a row.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub(crate) fn copy_rows(
        &self,
        [target, source]: [u64; 2],
        pitches: [usize; 2],
        size: [usize; 2],
    ) -> Result<()> {
        let [rows, bytes] = size;
        if rows == 0 || bytes == 0 {
            return Ok(());
        }
        self.make_current()?;
        if pitches == [bytes; 2] || rows == 1 {
            // The driver's plain copy: the other one is up to 1.7 times as slow on rows in a row.
            // SAFETY: as below.
            return unsafe {
                call!(
                    self.driver,
                    cuMemcpyDtoDAsync_v2(target, source, rows * bytes, self.stream())
                )
            };
        }
        let copy = sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            srcHost: ptr::null(),
            srcDevice: source,
            srcArray: ptr::null_mut(),
            srcPitch: pitches[1],
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            dstHost: ptr::null_mut(),
            dstDevice: target,
            dstArray: ptr::null_mut(),
            dstPitch: pitches[0],
            WidthInBytes: bytes,
            Height: rows,
        };
        // SAFETY: both ranges come from views that were checked against their buffers; the driver
        // reads the description before it returns.
        unsafe { call!(self.driver, cuMemcpy2DAsync_v2(&copy, self.stream())) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.cuda.free(self.address, self.bytes);
    }
}
