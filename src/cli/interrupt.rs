//! Ctrl-C: the first stops after the current step and keeps what is finished, the second ends the
//! program at once. While nothing is being made, as during loading, the first ends it too.

use std::ops::ControlFlow;
use std::process;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use anyhow::Result;

use crate::cli::stream;
use crate::error::Error;

const IDLE: u8 = 0;
const WORKING: u8 = 1;
const ASKED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(IDLE);

/// Takes over Ctrl-C (and SIGTERM, SIGHUP).
///
/// # Errors
/// When the system refuses the handler.
pub(super) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        let first = STATE.compare_exchange(WORKING, ASKED, Ordering::SeqCst, Ordering::SeqCst);
        stream::clear_line();
        if first.is_err() {
            stream::note("stopped at once");
            process::exit(i32::from(Error::Cancelled.exit_code()));
        }
        stream::note("stopping after this step; press Ctrl-C again to stop at once");
    })
    .context("cannot handle Ctrl-C")
}

/// From now on the first Ctrl-C lets the current step finish.
pub(super) fn working() {
    let _ = STATE.compare_exchange(IDLE, WORKING, Ordering::SeqCst, Ordering::SeqCst);
}

/// What an observer of a picture answers: stop, if the user asked for that.
pub(super) fn flow() -> ControlFlow<()> {
    match asked() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Whether the user asked to stop.
pub(super) fn asked() -> bool {
    STATE.load(Ordering::SeqCst) == ASKED
}
