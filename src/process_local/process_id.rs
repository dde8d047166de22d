//! The id of this process, without a system call each time: asked again after a fork, of which
//! the C library tells. Must not know what depends on it.
#![allow(unsafe_code, reason = "pthread_atfork has no safe interface; the one call is here")]

use std::process;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

// 0: not known in this process.
static KNOWN: AtomicU32 = AtomicU32::new(0);

// Not a `Once`: a fork in the middle of one would leave the child waiting for ever.
static WATCH: AtomicU8 = AtomicU8::new(NOT_WATCHING);
const NOT_WATCHING: u8 = 0;
const BEGINNING: u8 = 1;
const WATCHING: u8 = 2;

/// The id of this process, in a forked child the child's.
#[inline]
pub fn process_id() -> u32 {
    match KNOWN.load(Ordering::Relaxed) {
        0 => ask(),
        known => known,
    }
}

#[cold]
fn ask() -> u32 {
    let process = process::id();
    if is_watching() {
        KNOWN.store(process, Ordering::Relaxed);
    }
    process
}

/// Whether forks are noticed; until then the id is asked for each time.
fn is_watching() -> bool {
    let began =
        WATCH.compare_exchange(NOT_WATCHING, BEGINNING, Ordering::AcqRel, Ordering::Acquire);
    if began.is_ok() {
        // SAFETY: the handler is a function of this library, which is never unloaded (Python
        // does not unload extension modules), and does nothing but store to an atomic.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(forget)) } != 0;
        WATCH.store(if failed { BEGINNING } else { WATCHING }, Ordering::Release);
    }
    WATCH.load(Ordering::Acquire) == WATCHING
}

extern "C" fn forget() {
    KNOWN.store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_an_id_of_its_own() {
        assert_eq!(process_id(), process::id());

        // SAFETY: the child calls nothing but functions that are safe after a fork, and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_right = process_id() == process::id();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!is_right)) }
        }
        let mut status = -1;
        // SAFETY: `child` is a child of this process, `status` outlives the call.
        unsafe { libc::waitpid(child, &raw mut status, 0) };

        assert_eq!(status, 0);
        assert_eq!(process_id(), process::id());
    }
}
