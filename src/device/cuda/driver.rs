//! The one place where the CUDA driver is called: the macro [`call`], through which every call of
//! this module goes.
//!
//! It names a failed call in the error, and counts the calls by name where a test asks for that.
//! Only what puts an error into words is called past it, here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys;

use crate::device::cuda::Cuda;
use crate::device::cuda::faults::Faults;
use crate::error::Error;
use crate::error::Result;

/// Calls a function of the driver, as in `unsafe { call!(self.driver, cuEventRecord(event, stream)) }`:
/// a `Result<()>` whose error names the function.
///
/// With a code behind the call, as in `call!(self.driver, cuEventQuery(event), CUDA_ERROR_NOT_READY)`,
/// that one is an answer, not an error: a `Result<bool>`, false for that code.
///
/// The `unsafe` and its reason stay with the caller, who knows why the arguments are right.
macro_rules! call {
    ($driver:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        const NAME: &str = $crate::device::cuda::driver::documented_name(stringify!($function));
        let code = match $driver.injected(NAME) {
            Some(code) => code,
            None => ::cudarc::driver::sys::$function($($argument),*),
        };
        $driver.check(NAME, code)
    }};
    ($driver:expr, $function:ident($($argument:expr),* $(,)?), $answer:ident $(,)?) => {{
        const NAME: &str = $crate::device::cuda::driver::documented_name(stringify!($function));
        let code = match $driver.injected(NAME) {
            Some(code) => code,
            None => ::cudarc::driver::sys::$function($($argument),*),
        };
        $driver.check_unless(::cudarc::driver::sys::CUresult::$answer, NAME, code)
    }};
}
pub(super) use call;

/// The way of one [`Cuda`] to the driver, and what went there.
#[derive(Debug, Default)]
pub(super) struct Driver {
    counting: AtomicBool,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    /// For tests.
    faults: Option<Arc<Faults>>,
    /// The call that first said that the context is lost, and what it said.
    lost: OnceLock<(&'static str, String)>,
}

/// After one of these every call of the process to that GPU fails.
const FATAL: [sys::CUresult; 12] = [
    sys::CUresult::CUDA_ERROR_ASSERT,
    sys::CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
    sys::CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    sys::CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    sys::CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    sys::CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    sys::CUresult::CUDA_ERROR_INVALID_PC,
    sys::CUresult::CUDA_ERROR_LAUNCH_FAILED,
    sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    sys::CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    sys::CUresult::CUDA_ERROR_UNKNOWN,
];

impl Driver {
    /// With allocations that fail as `faults` says.
    pub(super) fn new(faults: Option<Arc<Faults>>) -> Self {
        Self { faults, ..Self::default() }
    }

    /// Counts an allocation of a buffer; whether it is to fail.
    pub(super) fn strikes_buffer(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.strike())
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For [`call`]: counts a call, which costs next to nothing while no one counts, and turns what
    /// it returned into a result.
    pub(super) fn check(&self, call: &'static str, code: sys::CUresult) -> Result<()> {
        if self.counting.load(Ordering::Relaxed) {
            *self.calls().entry(call).or_default() += 1;
        }
        code.result().map_err(|error| {
            let reason = in_words(error);
            self.remember(call, code, &reason);
            Error::Cuda { call, reason }
        })
    }

    /// Keeps the first error after which nothing works any more.
    fn remember(&self, call: &'static str, code: sys::CUresult, reason: &str) {
        if FATAL.contains(&code) {
            self.lost.get_or_init(|| (call, reason.to_owned()));
        }
    }

    /// For [`call`]: what a call is to return instead of being made, for a test.
    pub(super) fn injected(&self, call: &'static str) -> Option<sys::CUresult> {
        let fails = self.faults.as_ref().is_some_and(|faults| faults.strike_call(call));
        fails.then_some(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)
    }

    /// As [`Self::check`], where `answer` is no error but false.
    pub(super) fn check_unless(
        &self,
        answer: sys::CUresult,
        call: &'static str,
        code: sys::CUresult,
    ) -> Result<bool> {
        let expected = code == answer;
        self.check(call, if expected { sys::CUresult::CUDA_SUCCESS } else { code })?;
        Ok(!expected)
    }
}

impl Cuda {
    /// Fails once a call has said that the GPU's context is lost: nothing more can be computed there in this
    /// process, and what is asked of it would hang or fail with less clear words.
    ///
    /// # Errors
    /// [`Error::Cuda`] with that call.
    pub(crate) fn check_alive(&self) -> Result<()> {
        let Some((call, reason)) = self.driver.lost.get() else { return Ok(()) };
        let reason =
            format!("{reason}; the GPU is lost to this process since then: start it again");
        Err(Error::Cuda { call, reason })
    }

    /// Starts to count this GPU's calls of the driver from 0, or stops: for tests of what the host
    /// does, and does not do, while the GPU works.
    pub fn count_driver_calls(&self, on: bool) {
        if on {
            self.driver.calls().clear();
        }
        self.driver.counting.store(on, Ordering::Relaxed);
    }

    /// How often each function of the driver was called while [`Self::count_driver_calls`] was on,
    /// under the names that NVIDIA documents: `cuEventDestroy`, not `cuEventDestroy_v2`.
    #[must_use]
    pub fn driver_calls(&self) -> BTreeMap<&'static str, u64> {
        self.driver.calls().clone()
    }
}

/// An error of the driver's: its name and text.
fn in_words(error: DriverError) -> String {
    let name = error
        .error_name()
        .map_or_else(|_| format!("{:?}", error.0), |name| name.to_string_lossy().into_owned());
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    format!("{name}: {}", text.unwrap_or_default())
}

/// A function's name without the version that cuda.h puts behind it.
pub(super) const fn documented_name(function: &'static str) -> &'static str {
    match function.as_bytes() {
        // The third version of this one has a name instead of a number.
        b"cuGraphInstantiateWithFlags" => "cuGraphInstantiate",
        [name @ .., b'_', b'v', b'2'..=b'9'] => function.split_at(name.len()).0,
        _ => function,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_while_someone_counts() {
        let driver = Driver::default();
        let [done, not_ready] = [sys::CUresult::CUDA_SUCCESS, sys::CUresult::CUDA_ERROR_NOT_READY];
        driver.check("cuInit", done).unwrap();
        assert!(driver.calls().is_empty());
        driver.counting.store(true, Ordering::Relaxed);
        driver.check("cuMemFree", done).unwrap();
        assert!(!driver.check_unless(not_ready, "cuEventQuery", not_ready).unwrap());
        assert!(driver.check_unless(not_ready, "cuEventQuery", done).unwrap());
        let expected = [("cuEventQuery", 2), ("cuMemFree", 1)];
        assert_eq!(*driver.calls(), BTreeMap::from(expected));
    }

    #[test]
    fn a_lost_context_is_remembered() {
        let driver = Driver::default();
        driver.remember("cuMemAlloc", sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY, "no memory");
        assert_eq!(driver.lost.get(), None);
        driver.remember("cuEventQuery", sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, "address");
        driver.remember("cuMemFree", sys::CUresult::CUDA_ERROR_LAUNCH_FAILED, "later");
        let first = ("cuEventQuery", "address".to_owned());
        assert_eq!(driver.lost.get(), Some(&first), "the first is what is told");
    }

    #[test]
    fn names_are_those_of_the_documentation() {
        for (function, name) in [
            ("cuMemFree_v2", "cuMemFree"),
            ("cuStreamGetCaptureInfo_v3", "cuStreamGetCaptureInfo"),
            ("cuGraphInstantiateWithFlags", "cuGraphInstantiate"),
            ("cuEventQuery", "cuEventQuery"),
        ] {
            assert_eq!(documented_name(function), name);
        }
    }
}
