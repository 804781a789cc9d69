//! Texts of the caller's, and texts for the caller.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_char;

use crate::error::Error;
use crate::error::Result;

/// The text at `pointer`; none for null.
///
/// # Errors
/// [`Error::Request`] if it is not UTF-8.
///
/// # Safety
/// `pointer` is null or points to bytes that end with 0 and stay as they are for `'a`.
pub(super) unsafe fn read<'a>(
    field: &'static str,
    pointer: *const c_char,
) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    let text = text.to_str().map_err(|error| {
        let reason =
            format!("expected UTF-8, found something else at byte {}", error.valid_up_to());
        Error::Request { field, reason }
    })?;
    Ok(Some(text))
}

/// A text for C; what it holds of NUL is replaced.
pub(super) fn owned(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// Copies as much of `text` as `buffer` holds, cut between characters, and a 0 at its end. Returns the
/// bytes that the whole text takes, without the 0.
///
/// # Safety
/// `buffer` is null or has room for `size` bytes that nobody else uses.
pub(super) unsafe fn copy(text: &str, buffer: *mut c_char, size: usize) -> usize {
    if !buffer.is_null() && size > 0 {
        let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        let fits = ends.take_while(|&end| end < size).last().unwrap_or(0);
        // SAFETY: `fits` is below `size`, which is the caller's promise of room, and below the text's length.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, fits) };
        let end = buffer.wrapping_add(fits);
        // SAFETY: as above; `fits` is at most `size - 1`.
        unsafe { end.write(0) };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let mut buffer = [b'#'; 8].map(|byte| byte.cast_signed());
        let mut copied = |size| {
            // SAFETY: the buffer has 8 bytes.
            let length = unsafe { copy("grün", buffer.as_mut_ptr(), size) };
            assert_eq!(length, 5);
            // SAFETY: `copy` has ended it with 0.
            unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_str().unwrap().to_owned()
        };
        assert_eq!(copied(8), "grün");
        assert_eq!(copied(6), "grün");
        assert_eq!(copied(4), "gr");
        assert_eq!(copied(1), "");
        // SAFETY: null is allowed.
        assert_eq!(unsafe { copy("x", std::ptr::null_mut(), 9) }, 1);
    }

    #[test]
    fn what_is_not_utf8_names_its_field() {
        let text = c"a\xff".as_ptr();
        // SAFETY: it ends with 0.
        let error = unsafe { read("prompt", text) }.unwrap_err().to_string();
        assert_eq!(error, "prompt: expected UTF-8, found something else at byte 1");
        assert_eq!(owned("a\0b").to_str().unwrap(), "a\u{fffd}b");
    }
}
