//! Tells how long a case took and whether anything panicked in it, on any thread and be it caught. Ends the
//! process, with the name of the case, where one hangs.
#![expect(
    clippy::print_stderr,
    reason = "of a panic or a hang in another thread nobody else tells"
)]

use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// No case takes nearly as long.
const LONGEST: Duration = Duration::from_secs(60);

static PANICS: AtomicUsize = AtomicUsize::new(0);
static NOW: Mutex<Option<(String, Instant)>> = Mutex::new(None);

/// What became of a case.
pub(crate) struct Watched<T> {
    /// What it gave, if it did not panic.
    pub result: Option<T>,
    /// Panics in it, those that were caught too: a user sees them all.
    pub panics: usize,
    pub time: Duration,
}

/// Runs `work`, which is called `name`.
pub(crate) fn watched<T>(name: &str, work: impl FnOnce() -> T) -> Watched<T> {
    static START: Once = Once::new();
    START.call_once(|| {
        drop(thread::spawn(watch));
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            // Without a backtrace, whose symbols take memory.
            match NOW.lock().as_deref() {
                Ok(Some((name, _))) => eprintln!("{name}: {info}"),
                _ => usual(info),
            }
        }));
    });
    let (panics, started) = (PANICS.load(Ordering::Relaxed), Instant::now());
    *NOW.lock().unwrap() = Some((name.to_owned(), started));
    let result = panic::catch_unwind(AssertUnwindSafe(work)).ok();
    *NOW.lock().unwrap() = None;
    let panics = PANICS.load(Ordering::Relaxed) - panics;
    Watched { result, panics, time: started.elapsed() }
}

fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        if let Some((name, started)) = &*NOW.lock().unwrap()
            && started.elapsed() > LONGEST
        {
            eprintln!("hangs: {name}");
            std::process::abort();
        }
    }
}
