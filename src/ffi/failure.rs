//! Why a function failed.

use crate::error::Error;
use crate::ffi::status::flux_rt_status;

/// A status and its message.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) status: flux_rt_status,
    pub(super) message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Causes are part of the message, as on the command line.
        let causes =
            std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        Self { status: flux_rt_status::from(&error), message: format!("{error}{causes}") }
    }
}
