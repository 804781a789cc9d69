//! Memory from the driver: what the arena's blocks take, what is left, and how much may be taken.
#![expect(unsafe_code, reason = "allocations of the CUDA driver")]

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::device::cuda::Cuda;
use crate::device::cuda::arena;
use crate::device::cuda::arena::Arena;
use crate::device::cuda::driver::Driver;
use crate::device::cuda::driver::call;
use crate::error::Error;
use crate::error::Result;

/// Bytes taken from the driver at a time, so that small buffers share a block.
const BLOCK_BYTES: usize = 64 << 20;
/// What blocks for a single buffer are multiples of: the driver's own pages.
const PAGE_BYTES: usize = 2 << 20;
/// Smaller buffers share blocks in any case.
const LARGE_BYTES: usize = 8 << 20;
/// The most that a context is thought to take, where other programs use the GPU too: then the driver
/// does not tell what is whose.
const CONTEXT_MOST: usize = 700_000_000;

/// The memory of a GPU that this program took.
#[derive(Debug)]
pub(super) struct Memory {
    arena: Mutex<Arena>,
    /// The most bytes that the arena's blocks may take together.
    limit: AtomicUsize,
    /// Whether large buffers are made to stay.
    lasting: AtomicBool,
    /// What the context took by itself.
    context: usize,
    /// What the driver had free before anything else was taken.
    free_at_open: usize,
}

impl Memory {
    /// Of the current context, which is new.
    pub(super) fn new(driver: &Driver) -> Result<Self> {
        let [free_at_open, total] = free_and_total(driver)?;
        Ok(Self {
            arena: Mutex::default(),
            limit: AtomicUsize::new(usize::MAX),
            lasting: AtomicBool::new(false),
            context: total.saturating_sub(free_at_open).min(CONTEXT_MOST),
            free_at_open,
        })
    }

    fn arena(&self) -> MutexGuard<'_, Arena> {
        self.arena.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees all blocks; the stream is idle and no buffer is left.
    pub(super) fn free(&mut self, driver: &Driver) {
        for block in self.arena.get_mut().unwrap_or_else(PoisonError::into_inner).blocks() {
            // SAFETY: a block of `take_from_arena`; nothing uses it, since the stream is idle and
            // every `Buffer` holds an `Arc` of its `Cuda`.
            let _ = unsafe { call!(driver, cuMemFree_v2(block)) };
        }
    }
}

/// Bytes that the driver has free, and has, in the current context.
fn free_and_total(driver: &Driver) -> Result<[usize; 2]> {
    let [mut free, mut total] = [0; 2];
    // SAFETY: writes two numbers.
    unsafe { call!(driver, cuMemGetInfo_v2(&mut free, &mut total)) }?;
    Ok([free, total])
}

impl Cuda {
    /// How often memory was taken from the driver, and the most bytes in use.
    pub fn memory(&self) -> (usize, usize) {
        let arena = self.memory.arena();
        (arena.grown(), arena.peak())
    }

    /// Has [`Self::memory`] tell the most bytes from now on.
    pub fn reset_peak_memory(&self) {
        self.memory.arena().reset_peak();
    }

    /// All bytes of the GPU that this program holds: buffers and what is kept for them, kernels, the
    /// driver's own. What other programs took or gave back since the GPU was opened is counted too.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn held_bytes(&self) -> Result<usize> {
        self.make_current()?;
        let [free, _] = free_and_total(&self.driver)?;
        Ok(self.memory.context + self.memory.free_at_open.saturating_sub(free))
    }

    /// What the driver took for itself when the GPU was opened.
    pub(crate) fn context_bytes(&self) -> usize {
        self.memory.context
    }

    /// From now on buffers take at most so many bytes from the driver.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.memory.limit.store(bytes, Ordering::Relaxed);
    }

    /// Runs `make`, whose large buffers are to stay: each gets a block of its size, or a range that it
    /// fills. Cut from larger ones they would leave rests that no large buffer fits into, some 19 MB for
    /// each single block in e4m3. What `make` took and gave back returns to the driver.
    ///
    /// # Errors
    /// [`Error::Cuda`], and those of `make`.
    pub(crate) fn lasting<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        self.memory.lasting.store(true, Ordering::Relaxed);
        let made = make();
        self.memory.lasting.store(false, Ordering::Relaxed);
        self.free_unused_blocks(&mut self.memory.arena())?;
        made
    }

    fn free_unused_blocks(&self, arena: &mut Arena) -> Result<()> {
        // Copies that nobody waits for may still write where a buffer was.
        self.work_follows_copies()?;
        self.synchronize()?;
        for unused in arena.take_unused_blocks() {
            // SAFETY: a block of `take_from_arena` in which no buffer lies, and the streams are past
            // all work that used one.
            unsafe { call!(self.driver, cuMemFree_v2(unused)) }?;
        }
        Ok(())
    }

    /// Bytes that buffers can still take: those that the driver has free, or that the limit leaves, and
    /// those of the arena's blocks that no buffer uses.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub(crate) fn free_bytes(&self) -> Result<usize> {
        self.make_current()?;
        let arena = self.memory.arena();
        Ok(self.left(&arena)? + arena.free_bytes())
    }

    /// Bytes that can be taken from the driver, in the current context.
    fn left(&self, arena: &Arena) -> Result<usize> {
        let [free, _] = free_and_total(&self.driver)?;
        let limit = self.memory.limit.load(Ordering::Relaxed);
        Ok(free.min(limit.saturating_sub(arena.block_bytes())))
    }

    /// Device memory for `bytes`; its content is undefined.
    pub(super) fn allocate(&self, bytes: usize) -> Result<u64> {
        if self.driver.strikes_buffer() {
            return Err(Error::no_room(bytes, 0));
        }
        match &self.guards {
            None => self.take_from_arena(bytes),
            Some(guards) => self.allocate_guarded(guards, bytes),
        }
    }

    /// Gives back what [`Self::allocate`] gave for the same number of bytes.
    pub(super) fn free(&self, address: u64, bytes: usize) {
        match &self.guards {
            None => self.give_to_arena(address, bytes),
            Some(guards) => self.free_guarded(guards, address, bytes),
        }
    }

    pub(super) fn take_from_arena(&self, bytes: usize) -> Result<u64> {
        let mut arena = self.memory.arena();
        let own = arena::rounded(bytes).next_multiple_of(PAGE_BYTES);
        let lasting = bytes >= LARGE_BYTES && self.memory.lasting.load(Ordering::Relaxed);
        let (found, block) = match lasting {
            true => (arena.take_tight(bytes), own),
            false => (arena.take(bytes), own.max(BLOCK_BYTES)),
        };
        if let Some(address) = found {
            return Ok(address);
        }
        let block = match self.take_block(&arena, block) {
            Err(Error::OutOfMemory { .. }) => {
                if let Some(address) = arena.take(bytes) {
                    return Ok(address);
                }
                self.free_unused_blocks(&mut arena)?;
                self.take_block(&arena, own)
            }
            taken => taken,
        };
        let (address, size) = block?;
        arena.add_block(address, size);
        // The block was made large enough for this.
        arena.take(bytes).ok_or_else(|| Error::no_room(bytes, size))
    }

    pub(super) fn give_to_arena(&self, address: u64, bytes: usize) {
        self.memory.arena().give_back(address, bytes);
    }

    /// Address and size of a block for the arena.
    fn take_block(&self, arena: &Arena, bytes: usize) -> Result<(u64, usize)> {
        let limit = self.memory.limit.load(Ordering::Relaxed);
        if bytes > limit.saturating_sub(arena.block_bytes()) {
            self.make_current()?;
            return Err(Error::no_room(bytes, self.left(arena)?));
        }
        Ok((self.take_from_driver(bytes)?, bytes))
    }

    /// An allocation of the driver, which the caller sees to being freed.
    pub(super) fn take_from_driver(&self, bytes: usize) -> Result<u64> {
        self.make_current()?;
        let mut address = 0;
        // SAFETY: allocates, and touches nothing that is there; writes one address.
        let given = unsafe {
            call!(self.driver, cuMemAlloc_v2(&mut address, bytes), CUDA_ERROR_OUT_OF_MEMORY)
        }?;
        if !given {
            let [free, _] = free_and_total(&self.driver).unwrap_or_default();
            return Err(Error::no_room(bytes, free));
        }
        Ok(address)
    }
}
