//! Structs of the caller's: whether they are those of this library, and where they lie.
//!
//! Every struct begins with its size, which its init function writes. A pointer may point anywhere: what is read or
//! written here need not be aligned.

use crate::ffi::failure::Failure;
use crate::ffi::status::flux_rt_status;
use crate::ffi::status::flux_rt_status::FLUX_RT_NULL;
use crate::ffi::status::flux_rt_status::FLUX_RT_OK;
use crate::ffi::status::flux_rt_status::FLUX_RT_VERSION;

/// The version of this header. It is raised with every change after which a program must be compiled anew; the
/// init functions refuse a program that was compiled with another one.
pub const FLUX_RT_ABI_VERSION: u32 = 1;

/// Sets all of a struct to its defaults. If its size or the header's version are others, its size becomes 0, so
/// that no function takes it for one of this library.
///
/// # Safety
/// `place` is null or has room for `size` bytes; the struct begins with its size.
pub(super) unsafe fn init<T: Default>(
    place: *mut T,
    size: usize,
    abi_version: u32,
) -> flux_rt_status {
    if place.is_null() {
        return FLUX_RT_NULL;
    }
    if size == size_of::<T>() && abi_version == FLUX_RT_ABI_VERSION {
        // SAFETY: the caller's promise, and the size is this struct's.
        unsafe { place.write_unaligned(T::default()) };
        return FLUX_RT_OK;
    }
    if size >= size_of::<usize>() {
        // SAFETY: the caller's promise of room.
        unsafe { place.cast::<usize>().write_unaligned(0) };
    }
    FLUX_RT_VERSION
}

/// The struct at `pointer`, which is called `what`.
///
/// # Errors
/// If its size is not this struct's.
///
/// # Safety
/// `pointer` points to a struct that begins with its size.
pub(super) unsafe fn read<T: Copy>(what: &str, pointer: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's promise; the size is the first field in every version.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    let expected = size_of::<T>();
    if size != expected {
        let message = format!(
            "{what}: expected a size of {expected}, found {size}: not set by the init function, or by that of \
             another version of the library"
        );
        return Err(Failure { status: FLUX_RT_VERSION, message });
    }
    // SAFETY: the caller's promise, and the size is this struct's.
    Ok(unsafe { pointer.read_unaligned() })
}

/// Copies as many bytes of `found` as the caller's struct has; what it has beyond them becomes 0, as a library that
/// is older than the caller's header leaves it.
///
/// # Safety
/// `place` is null or has room for `size` bytes.
pub(super) unsafe fn give<T: Copy>(found: &T, place: *mut T, size: usize) -> flux_rt_status {
    if place.is_null() {
        return FLUX_RT_NULL;
    }
    let place = place.cast::<u8>();
    let known = size.min(size_of::<T>());
    // SAFETY: both have as many bytes; `found` is this library's and does not overlap what is the caller's.
    unsafe { std::ptr::copy_nonoverlapping(std::ptr::from_ref(found).cast(), place, known) };
    // SAFETY: the caller's promise of room: `known` is at most `size`.
    let rest = unsafe { place.add(known) };
    // SAFETY: as above.
    unsafe { rest.write_bytes(0, size - known) };
    FLUX_RT_OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Two {
        size: usize,
        value: u32,
        other: u32,
    }

    impl Default for Two {
        fn default() -> Self {
            Self { size: size_of::<Self>(), value: 3, other: 5 }
        }
    }

    #[test]
    fn structs_may_lie_anywhere() {
        let mut bytes = [0xff_u8; 17];
        let place = bytes[1..].as_mut_ptr().cast::<Two>();
        // SAFETY: there are 16 bytes from there on.
        let done = unsafe { init(place, 16, FLUX_RT_ABI_VERSION) };
        assert_eq!(done, FLUX_RT_OK);
        // SAFETY: that is one now.
        let found = unsafe { read("two", place) };
        assert_eq!(found.ok(), Some(Two::default()));
    }

    #[test]
    fn another_version_leaves_nothing_that_passes_for_this_one() {
        for (size, version) in [(16, 0), (16, 2), (8, 1), (24, 1)] {
            let mut bytes = [0xff_u8; 24];
            let place = bytes.as_mut_ptr().cast::<Two>();
            // SAFETY: there are 24 bytes.
            assert_eq!(unsafe { init(place, size, version) }, FLUX_RT_VERSION);
            // SAFETY: as above.
            let failure = unsafe { read("two", place) }.unwrap_err();
            assert_eq!(failure.status, FLUX_RT_VERSION);
            assert!(failure.message.starts_with("two: expected a size of 16, found 0"));
            assert_eq!(bytes[8..], [0xff; 16]);
        }
    }

    #[test]
    fn shorter_and_longer_structs_get_what_they_have_room_for() {
        for size in [0_usize, 8, 12, 16, 20] {
            let mut bytes = [0xff_u8; 24];
            // SAFETY: there are 24 bytes.
            let done = unsafe { give(&Two::default(), bytes.as_mut_ptr().cast(), size) };
            assert_eq!(done, FLUX_RT_OK);
            let whole = [16, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(bytes[..size], whole[..size]);
            assert!(bytes[size..].iter().all(|byte| *byte == 0xff), "{size}: {bytes:?}");
        }
    }
}
