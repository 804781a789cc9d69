//! For tests: buffers between guard bands, or each in an allocation of its own.
//!
//! Only a device that [`crate::device::Device::cuda_guarded`] opened has this; any other has no
//! [`Guards`], and allocates without it. A buffer that goes is looked at, so what is recorded into a
//! graph may not drop one here.
#![expect(unsafe_code, reason = "fills and reads device memory")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::device::cuda::Cuda;
use crate::device::cuda::driver::call;
use crate::error::Result;

/// Bytes of the band on either side of a buffer.
const BAND_BYTES: usize = 4096;
/// What bands and fresh buffers hold: NaN as bf16 and as f32.
const FILL: u8 = 0xFF;

/// How a device for tests keeps its buffers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Between bands that are checked when the buffer goes. Bands and fresh buffers hold NaN, so a
    /// read outside a buffer, or of what nobody wrote, shows in the result.
    Bands,
    /// In an allocation of its own, with undefined content: compute-sanitizer then sees where each
    /// buffer ends and what was never written.
    Separate,
}

/// The buffers of a guarded device.
#[derive(Debug)]
pub(super) struct Guards {
    guard: Guard,
    /// First address to bytes of every buffer between bands.
    live: Mutex<BTreeMap<u64, usize>>,
    damage: AtomicUsize,
}

impl Guards {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, live: Mutex::default(), damage: AtomicUsize::new(0) }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cuda {
    /// As [`Self::allocate`], guarded.
    pub(super) fn allocate_guarded(&self, guards: &Guards, bytes: usize) -> Result<u64> {
        if guards.guard == Guard::Separate {
            return self.take_from_driver(bytes.max(1));
        }
        let whole = bytes + 2 * BAND_BYTES;
        let first = self.take_from_arena(whole)?;
        self.fill(first, whole)?;
        let address = first + BAND_BYTES as u64;
        guards.live().insert(address, bytes);
        Ok(address)
    }

    /// As [`Self::free`], guarded. What fails here has no one to be told, and counts as damage.
    pub(super) fn free_guarded(&self, guards: &Guards, address: u64, bytes: usize) {
        if guards.guard == Guard::Separate {
            let freed = self.synchronize().is_ok()
                // SAFETY: of `allocate_guarded`, and the stream is past all work that uses it.
                && unsafe { call!(self.driver, cuMemFree_v2(address)) }.is_ok();
            guards.damage.fetch_add(usize::from(!freed), Ordering::Relaxed);
            return;
        }
        let damaged = self.damaged_bands(address, bytes).unwrap_or(2);
        guards.damage.fetch_add(damaged, Ordering::Relaxed);
        guards.live().remove(&address);
        self.give_to_arena(address - BAND_BYTES as u64, bytes + 2 * BAND_BYTES);
    }

    /// Guard bands that were written to since the last call, of live buffers and of those that went;
    /// 0 on a device without guards.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub(crate) fn guard_damage(&self) -> Result<usize> {
        let Some(guards) = &self.guards else { return Ok(0) };
        let mut damage = guards.damage.swap(0, Ordering::Relaxed);
        for (&address, &bytes) in guards.live().iter() {
            damage += self.damaged_bands(address, bytes)?;
        }
        Ok(damage)
    }

    /// How many of a buffer's two bands do not hold what they should; mends them.
    fn damaged_bands(&self, address: u64, bytes: usize) -> Result<usize> {
        self.synchronize()?;
        let mut damaged = 0;
        for band in [address - BAND_BYTES as u64, address + bytes as u64] {
            let mut content = [0; BAND_BYTES];
            let target = content.as_mut_ptr().cast();
            // SAFETY: the band is part of what `allocate_guarded` took, and no kernel is running.
            unsafe { call!(self.driver, cuMemcpyDtoH_v2(target, band, BAND_BYTES)) }?;
            if content != [FILL; BAND_BYTES] {
                damaged += 1;
                self.fill(band, BAND_BYTES)?;
            }
        }
        Ok(damaged)
    }

    /// Fills memory of the arena, in stream order.
    fn fill(&self, address: u64, bytes: usize) -> Result<()> {
        self.make_current()?;
        // SAFETY: the callers' ranges lie in what they took from the arena.
        unsafe { call!(self.driver, cuMemsetD8Async(address, FILL, bytes, self.stream())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_bands_notice_a_write_on_either_side() {
        let cuda = match Cuda::open_guarded(0, Guard::Bands) {
            Ok(cuda) => cuda,
            Err(error) => {
                assert!(std::env::var_os("FLUX_RT_REQUIRE_GPU").is_none(), "{error}");
                return println!("skipped: no GPU");
            }
        };
        let zero = |address| {
            cuda.synchronize().unwrap();
            // SAFETY: one byte beside a buffer, inside its bands.
            unsafe { call!(cuda.driver, cuMemcpyHtoD_v2(address, [0u8].as_ptr().cast(), 1)) }
                .unwrap();
        };
        let bytes = 300;
        let address = cuda.allocate(bytes).unwrap();
        assert_eq!(cuda.guard_damage().unwrap(), 0);
        zero(address);
        zero(address + 299);
        assert_eq!(cuda.guard_damage().unwrap(), 0);
        zero(address - 1);
        assert_eq!(cuda.guard_damage().unwrap(), 1);
        assert_eq!(cuda.guard_damage().unwrap(), 0, "it was mended");
        zero(address + 300);
        zero(address - 4096);
        cuda.free(address, bytes);
        assert_eq!(cuda.guard_damage().unwrap(), 2);
    }
}
