//! The one place where the CUDA driver is called: the macro [`call`], through which every call of
//! this module goes.
//!
//! It names a failed call in the error, and counts the calls by name where a test asks for that.
//! Only what puts an error into words is called past it, here.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys;

use crate::device::cuda::Cuda;
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
    ($driver:expr, $function:ident($($argument:expr),* $(,)?)) => {
        $driver.check(
            const { $crate::device::cuda::driver::documented_name(stringify!($function)) },
            ::cudarc::driver::sys::$function($($argument),*),
        )
    };
    ($driver:expr, $function:ident($($argument:expr),* $(,)?), $answer:ident $(,)?) => {
        $driver.check_unless(
            ::cudarc::driver::sys::CUresult::$answer,
            const { $crate::device::cuda::driver::documented_name(stringify!($function)) },
            ::cudarc::driver::sys::$function($($argument),*),
        )
    };
}
pub(super) use call;

/// The way of one [`Cuda`] to the driver, and what went there.
#[derive(Debug, Default)]
pub(super) struct Driver {
    counting: AtomicBool,
    calls: Mutex<BTreeMap<&'static str, u64>>,
}

impl Driver {
    fn calls(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For [`call`]: counts a call, which costs next to nothing while no one counts, and turns what
    /// it returned into a result.
    pub(super) fn check(&self, call: &'static str, code: sys::CUresult) -> Result<()> {
        if self.counting.load(Ordering::Relaxed) {
            *self.calls().entry(call).or_default() += 1;
        }
        code.result().map_err(|error| refused(call, error))
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

/// An error of the driver as ours.
fn refused(call: &'static str, error: DriverError) -> Error {
    let name = error
        .error_name()
        .map_or_else(|_| format!("{:?}", error.0), |name| name.to_string_lossy().into_owned());
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    Error::Cuda { call, reason: format!("{name}: {}", text.unwrap_or_default()) }
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
