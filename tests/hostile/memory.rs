//! Counts the bytes that the process has allocated, to tell the most that a piece of work held.
#![expect(unsafe_code, reason = "an allocator is")]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

#[global_allocator]
static COUNTING: Counting = Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system allocator's, with the same arguments; the counters change nothing of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: what the caller promises is what the system allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above: `at` came from the system allocator with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

fn count(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

/// What `work` gives, and the most bytes that it held above those held before.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let result = work();
    (result, MOST.load(Ordering::Relaxed).saturating_sub(before))
}

#[test]
fn the_most_is_counted() {
    let _alone = crate::alone();
    let (length, most) = measured(|| {
        drop(std::hint::black_box(vec![0_u8; 3 << 20]));
        std::hint::black_box(vec![1_u8; 1 << 20]).len()
    });
    assert_eq!(length, 1 << 20);
    assert!((3 << 20..4 << 20).contains(&most), "{most}");
}
