//! The one error type of the library: fields, not sentences, so that callers can match on them.
//!
//! Every variant says what was expected and what was found; [`Error::exit_code`] is the program's
//! exit code for it.

use std::path::Path;
use std::path::PathBuf;

/// What [`Error`] a function returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor handed to an op has the wrong shape: a bug of the caller, never of the input.
    #[error("{op}: {tensor} has shape {actual}, expected {expected}")]
    Shape {
        /// The op that checked.
        op: &'static str,
        /// The tensor's name in that op.
        tensor: &'static str,
        /// What the op needs.
        expected: String,
        /// What it was given.
        actual: String,
    },
    /// A tensor in a weight file is missing, unknown, or of the wrong dtype or shape.
    #[error("{}: tensor `{tensor}`: expected {expected}, found {actual}", file.display())]
    Weight {
        /// The weight file, or the folder when no file holds the tensor.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What the model needs.
        expected: String,
        /// What the file has.
        actual: String,
    },
    /// A file is not what its name says: cut, damaged, or of another format.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A field of a JSON config is missing or has a value that this program cannot run.
    #[error("{}: field `{field}`: expected {expected}, found {actual}", path.display())]
    Config {
        /// The JSON file.
        path: PathBuf,
        /// The field, with dots for nesting.
        field: String,
        /// What would be right.
        expected: String,
        /// What the file has.
        actual: String,
    },
    /// No model at the place named; `searched` lists where it was looked for.
    #[error("model `{model}` not found; {searched}; {advice}")]
    ModelNotFound {
        /// What the user asked for.
        model: String,
        /// The places searched.
        searched: String,
        /// What to do.
        advice: String,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An output could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The request itself cannot be done: a value out of range, or two that exclude each other.
    #[error("{field}: {reason}")]
    Request {
        /// The option or field, as the user writes it.
        field: &'static str,
        /// What was expected, what was found.
        reason: String,
    },
    /// The device asked for is not there or cannot be used.
    #[error("{reason}")]
    Device {
        /// What was looked for and what to do.
        reason: String,
    },
    /// A call of the CUDA driver failed.
    #[error("{call}: {reason}")]
    Cuda {
        /// The driver's function.
        call: &'static str,
        /// Its error's name and text.
        reason: String,
    },
    /// The GPU's memory does not hold what is needed.
    #[error("{}; {advice}", shortage(*needed, *free, parts))]
    OutOfMemory {
        /// Bytes asked for.
        needed: usize,
        /// Bytes free.
        free: usize,
        /// What takes how many of the bytes; empty for a single buffer.
        parts: Vec<(&'static str, usize)>,
        /// What to do.
        advice: String,
    },
    /// The computer's memory does not hold what is needed.
    #[error("expected {} of free memory, found less", gigabytes(*needed))]
    HostMemory {
        /// Bytes asked for.
        needed: usize,
    },
    /// A result holds NaN or infinity.
    #[error("{what} holds NaN or infinity after step {step}")]
    Numeric {
        /// The tensor.
        what: &'static str,
        /// The denoising step, counted from 1.
        step: usize,
    },
    /// A picture that was made again is another one.
    #[error("{}", difference(path, *differing, *pixels, *largest, *psnr, *least_psnr))]
    Different {
        /// The picture.
        path: PathBuf,
        /// How many pixels differ.
        differing: usize,
        /// How many there are.
        pixels: usize,
        /// The largest difference of a value, of 255.
        largest: u8,
        /// Peak signal-to-noise ratio in dB.
        psnr: f64,
        /// The PSNR that would have been enough; none if only the same pixels are.
        least_psnr: Option<f64>,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Letters of a text that a message quotes.
const MOST_QUOTED: usize = 64;

/// A text of a file as a message quotes it: the start, where it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MOST_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is wrong with a file's JSON: an error may quote all of a text in it.
pub(crate) fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(4 * MOST_QUOTED) {
        Some((end, _)) => {
            format!("{}… at line {} column {}", &text[..end], error.line(), error.column())
        }
        None => text,
    }
}

/// What always helps where a GPU's memory does not suffice.
pub(crate) const OTHER_DEVICE: &str =
    "use another GPU with --device cuda:N, or the CPU with --device cpu";

/// The sentence of [`Error::OutOfMemory`] without its advice.
pub(crate) fn shortage(needed: usize, free: usize, parts: &[(&'static str, usize)]) -> String {
    let [needed, free] = [needed, free].map(gigabytes);
    let parts: Vec<_> =
        parts.iter().map(|(what, bytes)| format!("{what} {}", gigabytes(*bytes))).collect();
    let found = format!("expected {needed} of free GPU memory, found {free}");
    if parts.is_empty() { found } else { format!("{found}: {}", parts.join(", ")) }
}

/// In the unit that people buy memory in.
fn gigabytes(bytes: usize) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// The sentence of [`Error::Different`].
fn difference(
    path: &Path,
    differing: usize,
    pixels: usize,
    largest: u8,
    psnr: f64,
    least_psnr: Option<f64>,
) -> String {
    let path = path.display();
    let differ = format!("{differing} of {pixels} pixels differ, by at most {largest} of 255");
    match least_psnr {
        None => {
            format!("{path}: expected the same pixels, found others: {differ}; PSNR {psnr:.2} dB")
        }
        Some(least) => {
            format!("{path}: expected a PSNR of at least {least} dB, found {psnr:.2}: {differ}")
        }
    }
}

impl Error {
    /// The GPU has no room for a buffer of `needed` bytes.
    pub(crate) fn no_room(needed: usize, free: usize) -> Self {
        Self::OutOfMemory { needed, free, parts: Vec::new(), advice: OTHER_DEVICE.into() }
    }

    /// The program's exit code: 0 done; 1 other; 2 usage; 3 model file broken or unfit; 4 model not
    /// found; 5 not enough memory; 6 driver, CUDA or no GPU; 7 numeric or another picture; 8 output not writable; 130 Ctrl-C.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Shape { .. } => 1,
            Self::Request { .. } => 2,
            Self::Weight { .. } | Self::Format { .. } | Self::Config { .. } | Self::Read { .. } => {
                3
            }
            Self::ModelNotFound { .. } => 4,
            Self::OutOfMemory { .. } | Self::HostMemory { .. } => 5,
            // What the driver takes for itself has no size that it tells.
            Self::Cuda { reason, .. } if reason.starts_with("CUDA_ERROR_OUT_OF_MEMORY") => 5,
            Self::Device { .. } | Self::Cuda { .. } => 6,
            Self::Numeric { .. } | Self::Different { .. } => 7,
            Self::Write { .. } => 8,
            Self::Cancelled => 130,
        }
    }
}
