//! Host to device through pinned buffers: while one is being copied, the host fills the next.
#![expect(unsafe_code, reason = "pinned memory and copies of the CUDA driver")]

use std::collections::VecDeque;
use std::ops::Range;
use std::ptr;
use std::slice;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytemuck::Pod;
use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::buffer::Buffer;
use crate::device::cuda::driver::Driver;
use crate::device::cuda::driver::call;
use crate::error::Result;

/// Large enough for the full speed of the bus, small enough to fill one while another is copied.
const SLOT_BYTES: usize = 16 << 20;
/// Buffers that are made before one is used again.
const SLOTS: usize = 4;

/// The pinned buffers of a GPU, oldest use first, and the bytes that went through them.
#[derive(Debug, Default)]
pub(super) struct Ring {
    slots: Mutex<VecDeque<Slot>>,
    bytes: AtomicU64,
}

/// A pinned buffer and the event behind its last copy.
#[derive(Debug)]
struct Slot {
    memory: *mut u8,
    copied: sys::CUevent,
}

// SAFETY: the memory belongs to the slot alone, and the driver's handles are plain numbers.
unsafe impl Send for Slot {}

impl Slot {
    fn new(driver: &Driver) -> Result<Self> {
        let mut memory = ptr::null_mut();
        // SAFETY: writes one address; freed in `Ring::free`.
        unsafe { call!(driver, cuMemHostAlloc(&mut memory, SLOT_BYTES, 0)) }?;
        let copied = driver.event(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        let memory: *mut u8 = memory.cast();
        // SAFETY: the allocation is that long.
        unsafe { memory.write_bytes(0, SLOT_BYTES) };
        Ok(Self { memory, copied })
    }

    /// The memory as `len` numbers.
    fn values<T: Pod>(&mut self, len: usize) -> &mut [T] {
        assert!(len * size_of::<T>() <= SLOT_BYTES, "more than a slot holds");
        // SAFETY: the driver's allocation is SLOT_BYTES long, aligned to a page and initialised
        // in `new`; any bytes are a valid T; `self` is borrowed mutably, and no copy
        // from it is running, which `take` waited for.
        unsafe { slice::from_raw_parts_mut(self.memory.cast(), len) }
    }
}

impl Ring {
    /// A buffer that nothing is being copied from: a new one while there are few, else the oldest.
    /// The caller has it for itself, so that no lock is held while it is filled.
    fn take(&self, driver: &Driver) -> Result<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() < SLOTS {
            return Slot::new(driver);
        }
        let slot = slots.pop_front();
        drop(slots);
        let slot = slot.map_or_else(|| Slot::new(driver), Ok)?;
        // SAFETY: the event lives as long as the slot.
        unsafe { call!(driver, cuEventSynchronize(slot.copied)) }?;
        Ok(slot)
    }

    /// Frees all buffers; the stream is idle.
    pub(super) fn free(&mut self, driver: &Driver) {
        let slots = self.slots.get_mut().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.drain(..) {
            // SAFETY: made in `Slot::new`; no copy is running and nobody has the slot.
            let _ = unsafe { call!(driver, cuEventDestroy_v2(slot.copied)) };
            // SAFETY: as above.
            let _ = unsafe { call!(driver, cuMemFreeHost(slot.memory.cast())) };
        }
    }
}

impl Cuda {
    /// Bytes that were uploaded so far.
    pub fn uploaded_bytes(&self) -> u64 {
        self.ring.bytes.load(Ordering::Relaxed)
    }
}

impl Buffer {
    /// Copies `len` numbers from the host in stream order; `fill` writes them, one run after the
    /// other, into pinned memory.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    ///
    /// # Panics
    /// If the buffer has not exactly that many bytes: a bug of the caller.
    pub(crate) fn upload<T: Pod>(
        &mut self,
        len: usize,
        mut fill: impl FnMut(Range<usize>, &mut [T]),
    ) -> Result<()> {
        assert_eq!(len * size_of::<T>(), self.bytes(), "an upload fills its buffer");
        let cuda = self.cuda();
        cuda.make_current()?;
        let run = SLOT_BYTES / size_of::<T>();
        for start in (0..len).step_by(run) {
            let range = start..len.min(start + run);
            let mut slot = cuda.ring.take(&cuda.driver)?;
            let values = slot.values(range.len());
            fill(range.clone(), values);
            // `fill` may have waited for other work of the pool, which may have been another GPU's.
            cuda.make_current()?;
            let target = self.address() + (start * size_of::<T>()) as u64;
            let (source, bytes) = (values.as_ptr().cast(), size_of_val(values));
            // SAFETY: the range lies in this buffer; the slot is not written before its event.
            unsafe {
                call!(cuda.driver, cuMemcpyHtoDAsync_v2(target, source, bytes, cuda.stream()))
            }?;
            // SAFETY: event and stream live on.
            unsafe { call!(cuda.driver, cuEventRecord(slot.copied, cuda.stream())) }?;
            let mut slots = cuda.ring.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.push_back(slot);
        }
        cuda.ring.bytes.fetch_add(self.bytes() as u64, Ordering::Relaxed);
        Ok(())
    }
}
