//! What functions return.

use std::ffi::CStr;
use std::ffi::c_char;

use crate::error::Error;

/// What a function returns: 0 if it did what it says. The numbers are the exit codes of the program
/// where it has one for the same thing.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the name in C")]
pub enum flux_rt_status {
    /// Done.
    FLUX_RT_OK = 0,
    /// None of the others.
    FLUX_RT_OTHER = 1,
    /// A value cannot be, or excludes another; the message names the field.
    FLUX_RT_REQUEST = 2,
    /// A model file is broken or unfit.
    FLUX_RT_MODEL = 3,
    /// There is no such model.
    FLUX_RT_NOT_FOUND = 4,
    /// Not enough memory, of the GPU or on the CPU of the machine.
    FLUX_RT_OUT_OF_MEMORY = 5,
    /// No usable GPU, or its driver failed.
    FLUX_RT_DEVICE = 6,
    /// The latents or the picture became NaN or infinite.
    FLUX_RT_NUMERIC = 7,
    /// A file could not be written.
    FLUX_RT_WRITE = 8,
    /// A picture is being made with the engine, by another thread or by the caller of the function that called
    /// this. It was not touched, and neither was its message.
    FLUX_RT_BUSY = 20,
    /// A pointer is null that must not be.
    FLUX_RT_NULL = 21,
    /// A buffer has not the size that it must have.
    FLUX_RT_SIZE = 22,
    /// A bug of this library; the engine makes no pictures any more.
    FLUX_RT_BUG = 23,
    /// The program was compiled with the header of another version of the library, or a struct was not set by its
    /// init function.
    FLUX_RT_VERSION = 24,
    /// The picture was stopped: by `flux_rt_cancel`, by its progress function, or since its engine was freed.
    FLUX_RT_CANCELLED = 130,
}

use flux_rt_status::*;

impl From<&Error> for flux_rt_status {
    fn from(error: &Error) -> Self {
        match error.exit_code() {
            2 => FLUX_RT_REQUEST,
            3 => FLUX_RT_MODEL,
            4 => FLUX_RT_NOT_FOUND,
            5 => FLUX_RT_OUT_OF_MEMORY,
            6 => FLUX_RT_DEVICE,
            7 => FLUX_RT_NUMERIC,
            8 => FLUX_RT_WRITE,
            130 => FLUX_RT_CANCELLED,
            _ => FLUX_RT_OTHER,
        }
    }
}

/// A status in words, English, never null. Any number may be given.
#[unsafe(no_mangle)]
pub extern "C" fn flux_rt_status_text(status: i32) -> *const c_char {
    let text: &CStr = match status {
        0 => c"done",
        2 => c"a value of the request cannot be",
        3 => c"a model file is broken or unfit",
        4 => c"there is no such model",
        5 => c"not enough memory",
        6 => c"no usable GPU, or its driver failed",
        7 => c"the latents or the picture became NaN or infinite",
        8 => c"a file could not be written",
        20 => c"the engine is making a picture, for another thread or the caller of this",
        21 => c"a pointer is null that must not be",
        22 => c"a buffer has not the size that it must have",
        23 => c"a bug of this library",
        24 => c"a program or a struct of another version of the library",
        130 => c"the picture was stopped",
        _ => c"something else went wrong",
    };
    text.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_exit_codes() {
        let code = |error: &Error| flux_rt_status::from(error) as i32;
        for error in [
            Error::Request { field: "seed", reason: String::new() },
            Error::Format { path: "x".into(), reason: String::new() },
            Error::Device { reason: String::new() },
            Error::Numeric { what: "latents", step: 1 },
            Error::Cancelled,
        ] {
            assert_eq!(code(&error), i32::from(error.exit_code()), "{error}");
        }
    }
}
