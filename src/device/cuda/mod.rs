//! The NVIDIA side: driver, context, one stream, the arena, the compiled kernels.
//!
//! The driver is loaded at run time; without one everything else of the program works. All work of
//! an engine goes to one stream, so a buffer may be handed to the next user as soon as the host
//! drops it: the next kernel on that memory runs after the last one that used it. A second stream
//! only records the bodies of branches, and never runs anything. A third brings weights that wait in
//! host memory, between events that keep this order.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

mod arena;
mod buffer;
mod card;
mod conditional;
mod driver;
mod event;
mod faults;
mod graph;
mod guard;
mod launch;
mod loaded_modules;
mod memory;
mod pinned;
mod profile;
mod stream;
mod tensor_map;
mod upload;

use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use cudarc::driver::sys;

use crate::device::cuda::card::Card;
use crate::device::cuda::driver::Driver;
use crate::device::cuda::driver::call;
use crate::device::cuda::guard::Guards;
use crate::device::cuda::loaded_modules::Modules;
use crate::device::cuda::memory::Memory;
use crate::device::cuda::pinned::Copies;
use crate::device::cuda::stream::Streams;
use crate::device::cuda::upload::Ring;
use crate::device::modules::Tier;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;

pub(crate) use buffer::Buffer;
pub(crate) use card::driver_is_present;
pub use event::CudaEvent;
pub use faults::Faults;
pub use graph::Graph;
pub use guard::Guard;
pub(crate) use launch::Launch;
pub(crate) use pinned::Pinned;
pub use profile::KernelTime;
pub use profile::Profile;
pub use profile::Profiled;
pub use profile::Work;
pub(crate) use tensor_map::MapElement;
pub(crate) use tensor_map::MapLayout;
pub(crate) use tensor_map::Mapped;
pub(crate) use tensor_map::Swizzle;
pub(crate) use tensor_map::TensorMap;

/// A GPU that is ready to compute; its parts are the crate's own.
pub struct Cuda {
    /// Every call goes through this; see [`call`].
    driver: Driver,
    card: Card,
    /// Whether kernels round to bf16 wherever diffusers' bf16 pipeline does: mode `original`.
    like_diffusers: AtomicBool,
    context: sys::CUcontext,
    streams: Streams,
    copies: Copies,
    memory: Memory,
    ring: Ring,
    profile: profile::Slot,
    /// For tests; see [`guard`].
    guards: Option<Guards>,
    modules: Modules,
    /// What [`Self::scratch`] gives; 0 where no kernel needs any.
    scratch: u64,
    /// Whether the kernels of the card's own tier are passed over.
    portable: AtomicBool,
}

// SAFETY: the handles are plain numbers to the driver, which may be called from any thread; every
// method that uses them makes the context current on its own thread first, and what changes lies
// behind a mutex.
unsafe impl Send for Cuda {}
// SAFETY: as above.
unsafe impl Sync for Cuda {}

impl fmt::Debug for Cuda {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Cuda({})", self.card.name)
    }
}

impl Cuda {
    /// Opens GPU `index`.
    ///
    /// # Errors
    /// [`Error::Device`] without a driver, without that GPU, or with one that is too old;
    /// [`Error::Cuda`] if the driver refuses.
    pub(crate) fn open(index: usize, faults: Option<Arc<Faults>>) -> Result<Arc<Self>> {
        Self::open_with(index, None, faults)
    }

    /// As [`Self::open`], for tests with guarded buffers.
    pub(crate) fn open_guarded(index: usize, guard: Guard) -> Result<Arc<Self>> {
        Self::open_with(index, Some(guard), None)
    }

    fn open_with(
        index: usize,
        guard: Option<Guard>,
        faults: Option<Arc<Faults>>,
    ) -> Result<Arc<Self>> {
        let driver = Driver::new(faults);
        let card = Card::new(&driver, index)?;
        let mut context = ptr::null_mut();
        // SAFETY: the handle comes from cuDeviceGet; the context is released in `drop`, or below.
        unsafe { call!(driver, cuDevicePrimaryCtxRetain(&mut context, card.handle)) }?;
        let parts = Parts::new(&driver, &card, context);
        if parts.is_err() {
            // What was made in the context before ends with it, if this was its only owner.
            // SAFETY: retained above.
            let _ = unsafe { call!(driver, cuDevicePrimaryCtxRelease_v2(card.handle)) };
        }
        Ok(Self::of_parts(parts?, driver, card, context, guard))
    }

    fn of_parts(
        Parts { scratch, streams, copies, memory }: Parts,
        driver: Driver,
        card: Card,
        context: sys::CUcontext,
        guard: Option<Guard>,
    ) -> Arc<Self> {
        Arc::new(Self {
            scratch,
            streams,
            copies,
            memory,
            driver,
            card,
            like_diffusers: AtomicBool::new(false),
            context,
            ring: Ring::default(),
            profile: profile::Slot::default(),
            guards: guard.map(Guards::new),
            modules: Modules::default(),
            portable: AtomicBool::new(false),
        })
    }

    /// Makes the context the one of this thread: driver calls act on the current context.
    fn make_current(&self) -> Result<()> {
        // SAFETY: retained as long as `self`.
        unsafe { call!(self.driver, cuCtxSetCurrent(self.context)) }
    }

    /// The GPU's name.
    pub(crate) fn name(&self) -> &str {
        &self.card.name
    }

    /// The GPU's own id, as `nvidia-smi -L` writes it.
    pub fn uuid(&self) -> &str {
        &self.card.uuid
    }

    /// Multiprocessors of the GPU.
    pub(crate) fn multiprocessors(&self) -> usize {
        self.card.multiprocessors
    }

    /// Most threads that a multiprocessor runs at once.
    pub(crate) fn threads(&self) -> usize {
        self.card.threads
    }

    /// Shared memory that one block may take.
    pub(crate) fn smem_bytes_per_block(&self) -> u32 {
        self.card.smem_bytes_per_block
    }

    /// [`Self::FLAG_BYTES`] for each multiprocessor, which kernels find zero and leave so, then
    /// [`Self::PARTIAL_BYTES`] for each. All work goes to one stream, so kernels may share it.
    pub(crate) fn scratch(&self) -> u64 {
        self.scratch
    }

    /// As many flags as a block of an attention has warps, and room between those of two blocks.
    pub(crate) const FLAG_BYTES: usize = 256;
    /// What a block of an attention that shares tiles leaves for another.
    pub(crate) const PARTIAL_BYTES: usize = 69_632;

    /// The tier of the kernels that this GPU runs where an op has several.
    pub(crate) fn tier(&self) -> Tier {
        match self.portable.load(Ordering::Relaxed) {
            true => Tier::Portable,
            false => self.card.tier,
        }
    }

    /// Whether kernels for e4m3 run: on Ada and newer, of either tier.
    #[must_use]
    pub fn has_fp8(&self) -> bool {
        self.card.fp8
    }

    /// Whether ops started from now on take the kernels of the portable tier, whatever the card.
    pub fn set_portable(&self, on: bool) {
        self.portable.store(on, Ordering::Relaxed);
    }

    /// Whether kernels started from now on round as diffusers' bf16 pipeline does, to bf16 after
    /// every operation of PyTorch, instead of once at the end.
    pub fn set_round_like_diffusers(&self, on: bool) {
        self.like_diffusers.store(on, Ordering::Relaxed);
    }

    /// The flag as kernels take it.
    pub(crate) fn round_like_diffusers(&self) -> i32 {
        i32::from(self.like_diffusers.load(Ordering::Relaxed))
    }
}

/// What a context gets first.
struct Parts {
    scratch: u64,
    streams: Streams,
    copies: Copies,
    memory: Memory,
}

impl Parts {
    fn new(driver: &Driver, card: &Card, context: sys::CUcontext) -> Result<Self> {
        // SAFETY: retained by the caller.
        unsafe { call!(driver, cuCtxSetCurrent(context)) }?;
        Ok(Self {
            scratch: new_scratch(driver, card)?,
            streams: Streams::new(driver)?,
            copies: Copies::new(driver)?,
            memory: Memory::new(driver)?,
        })
    }
}

/// Memory for [`Cuda::scratch`], zeroed, on cards whose kernels need it.
fn new_scratch(driver: &Driver, card: &Card) -> Result<u64> {
    if card.tier == Tier::Portable {
        return Ok(0);
    }
    let (bytes, mut address) = (card.multiprocessors * (Cuda::FLAG_BYTES + Cuda::PARTIAL_BYTES), 0);
    // SAFETY: allocates, and touches nothing that is there; writes one address.
    unsafe { call!(driver, cuMemAlloc_v2(&mut address, bytes)) }?;
    // SAFETY: all of what was just allocated.
    unsafe { call!(driver, cuMemsetD8_v2(address, 0, bytes)) }?;
    // The default stream's work, which the stream of all work does not wait for.
    // SAFETY: waits, and touches nothing.
    unsafe { call!(driver, cuCtxSynchronize()) }?;
    Ok(address)
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // What fails here has no one to be told: the process or the engine is ending. After an error
        // of the GPU every call fails, but the context must be released all the same.
        let _ = self.synchronize();
        self.ring.free(&self.driver);
        self.memory.free(&self.driver);
        self.modules.unload(&self.driver);
        if self.scratch != 0 {
            // SAFETY: allocated in `open`; no kernel runs.
            let _ = unsafe { call!(self.driver, cuMemFree_v2(self.scratch)) };
        }
        self.copies.destroy(&self.driver);
        self.streams.destroy(&self.driver);
        // SAFETY: retained in `open`.
        let _ = unsafe { call!(self.driver, cuDevicePrimaryCtxRelease_v2(self.card.handle)) };
    }
}
