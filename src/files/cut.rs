//! What happens when a mapped file is cut while it is read. The system answers the read with SIGBUS, which by
//! default ends the process without a word; [`tell_of_cut_files`] lets a program say which file it was.
//!
//! A library must not take a signal from the program that it is part of, so only the command line asks for it.

use std::path::PathBuf;

/// What a program says and ends with, when a page of the file cannot be read.
pub type Report = fn(&LostPage) -> i32;

/// A page of a mapped file that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPage {
    /// The file.
    pub path: PathBuf,
    /// The byte that was read.
    pub at: u64,
    /// How long the file is now; none if the system does not tell.
    pub length: Option<u64>,
}

impl LostPage {
    /// What was expected and found.
    #[must_use]
    pub fn reason(&self) -> String {
        let path = self.path.display();
        match self.length.filter(|length| *length <= self.at) {
            Some(length) => format!(
                "{path}: cut while it was read: expected at least {} bytes, found {length}; another \
                 program changed the file",
                self.at + 1
            ),
            None => format!("{path}: cannot read the page of byte {}", self.at),
        }
    }
}

/// From now on a page of a mapped file that cannot be read ends the process with what `report` says, at once:
/// by `_exit`, so nothing that waits for a usual exit is run or written. Other causes of SIGBUS end it as by
/// default. A handler of SIGBUS that the program had is replaced; of several calls the first one counts. Does
/// nothing on systems other than Linux.
pub fn tell_of_cut_files(report: Report) {
    #[cfg(target_os = "linux")]
    linux::install(report);
    #[cfg(not(target_os = "linux"))]
    let _ = report;
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use crate::files::cut::LostPage;
    use crate::files::cut::Report;

    static REPORT: OnceLock<Report> = OnceLock::new();
    static REPORTING: AtomicBool = AtomicBool::new(false);

    pub(super) fn install(report: Report) {
        if REPORT.set(report).is_err() {
            return;
        }
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = handle;
        // SAFETY: all-zero bytes are a `sigaction`: an empty mask and no flags.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `action` lives through the call, and `handler` has the signature that SA_SIGINFO asks for.
        // Where it fails, SIGBUS goes on ending the process as before.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    }

    /// Runs on the thread that read, in the midst of that read. A read of a mapping is code of this program
    /// between two calls, never inside the allocator or under a lock of a stream, so all may be used here that
    /// does not read the mapping again. What another process sends, or what is no mapped file, is not ours.
    extern "C" fn handle(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the system gives a valid pointer to what it says of the signal.
        let info = unsafe { &*info };
        if info.si_code <= 0 {
            // Sent, by another process say: no read comes again that would raise it.
            as_before();
            // SAFETY: raising a signal has no conditions; this one is delivered when the handler ends.
            unsafe { libc::raise(libc::SIGBUS) };
            return;
        }
        // SAFETY: a SIGBUS with a code above 0 has an address.
        let address = unsafe { info.si_addr() } as usize;
        let Some(page) = page_at(address) else { return as_before() };
        while REPORTING.swap(true, Ordering::SeqCst) {
            // Another thread is telling, and ends the process.
            std::thread::sleep(Duration::from_secs(1));
        }
        let code = REPORT.get().map_or(3, |report| report(&page));
        // SAFETY: ends the process without what runs at a usual exit, which other threads may be in the way of.
        unsafe { libc::_exit(code) }
    }

    /// The default action, for the signal that comes again when the read is tried again.
    fn as_before() {
        // SAFETY: setting the default action has no conditions.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }

    /// The file whose mapping holds an address.
    fn page_at(address: usize) -> Option<LostPage> {
        #[expect(
            clippy::disallowed_methods,
            reason = "files::read_text asks for UTF-8, which paths need not be"
        )]
        let maps = std::fs::read("/proc/self/maps").ok()?;
        let mut lines = maps.split(|byte| *byte == b'\n');
        let (path, at) = lines.find_map(|line| mapped_at(line, address))?;
        let length = std::fs::metadata(&path).ok().map(|found| found.len());
        Some(LostPage { path, at, length })
    }

    /// The file of a line, and the place in it, if the line's range holds `address`:
    /// `7f0c1000-7f0c3000 r--p 00002000 08:01 131 /a/b c`.
    fn mapped_at(line: &[u8], address: usize) -> Option<(PathBuf, u64)> {
        let mut words = line.splitn(6, |byte| *byte == b' ');
        let mut next = || std::str::from_utf8(words.next()?).ok();
        let (start, end) = next()?.split_once('-')?;
        let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16));
        let (start, end) = (start.ok()?, end.ok()?);
        let _access = next()?;
        let offset = u64::from_str_radix(next()?, 16).ok()?;
        let path = words.nth(2)?.trim_ascii_start();
        let inside = (start..end).contains(&address) && path.starts_with(b"/");
        inside.then(|| (PathBuf::from(OsStr::from_bytes(path)), offset + (address - start) as u64))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_line_tells_file_and_place() {
            let line = b"7f0c1000-7f0c3000 r--p 00002000 08:01 131      /a/b c.safetensors";
            let found = mapped_at(line, 0x7f0c_1234).unwrap();
            assert_eq!(found, (PathBuf::from("/a/b c.safetensors"), 0x2234));
            let latin1 = b"7f0c1000-7f0c3000 r--p 00002000 08:01 131      /a/\xe9";
            let (path, _) = mapped_at(latin1, 0x7f0c_1234).unwrap();
            assert_eq!(path.as_os_str().as_bytes(), b"/a/\xe9");
            assert!(mapped_at(line, 0x7f0c_3000).is_none());
            for other in [
                "7f0c1000-7f0c3000 rw-p 00000000 00:00 0",
                "7f0c1000-7f0c3000 rw-p 00000000 00:00 0 [heap]",
                "",
            ] {
                assert!(mapped_at(other.as_bytes(), 0x7f0c_1234).is_none(), "{other}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_says_what_was_found() {
        let page = |length| LostPage { path: "x".into(), at: 4096, length };
        assert!(
            page(Some(4096))
                .reason()
                .starts_with("x: cut while it was read: expected at least 4097")
        );
        assert!(page(Some(5000)).reason().contains("cannot read the page of byte 4096"));
        assert!(page(None).reason().contains("byte 4096"));
    }
}
