//! Work that a fork must not cut in two: what holds locks of this process (a library's own, or
//! those on a file) would leave them held in the child, by nobody. Such work holds the gate; a
//! fork shuts it, waits until nobody holds it, and opens it again on both sides.
//!
//! Whoever forks must not keep from the holders what they may need to finish (Python's lock).
//! Must not know what the work is.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How often whoever waits looks again: forks are rare, and so is work in their way.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// Those who hold the gate, and in the upper half those who shut it. An atomic and no lock:
/// nothing in it can stay held in a child.
static GATE: AtomicUsize = AtomicUsize::new(0);
const HOLDER: usize = 1;
const SHUTTER: usize = 1 << (usize::BITS / 2);

thread_local! {
    // How often this thread holds the gate.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// No fork begins while this is there.
#[must_use]
pub struct NoFork {
    // It belongs to the thread that took it.
    _not_send: PhantomData<*const ()>,
}

impl NoFork {
    /// Waits while a fork is under way, unless this thread holds the gate already.
    pub fn hold() -> Self {
        loop {
            if let Some(held) = NoFork::unless_shut() {
                return held;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// None while a fork is under way: for whoever can't wait, because it may hold what the
    /// fork needs.
    pub fn unless_shut() -> Option<Self> {
        let held = HELD.get();
        if GATE.fetch_add(HOLDER, Ordering::AcqRel) >= SHUTTER && held == 0 {
            GATE.fetch_sub(HOLDER, Ordering::AcqRel);
            return None;
        }
        HELD.set(held + 1);
        Some(NoFork { _not_send: PhantomData })
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        GATE.fetch_sub(HOLDER, Ordering::AcqRel);
    }
}

/// Whoever holds the gate and has nothing at the moment that a fork must not see: lets a fork
/// pass that waits.
pub fn let_fork_pass() {
    let held = HELD.get();
    if held == 0 || GATE.load(Ordering::Acquire) < SHUTTER {
        return;
    }
    HELD.set(0);
    GATE.fetch_sub(held, Ordering::AcqRel);
    let again = NoFork::hold();
    // All that this thread held is held again.
    GATE.fetch_add(held - 1, Ordering::AcqRel);
    HELD.set(held);
    mem::forget(again);
}

/// Before a fork: shuts the gate, and waits until no other thread holds it.
pub fn before_fork() {
    GATE.fetch_add(SHUTTER, Ordering::AcqRel);
    while GATE.load(Ordering::Acquire) % SHUTTER > HELD.get() {
        thread::sleep(LOOK_AGAIN);
    }
}

/// After the fork, in the parent: the gate is open again.
pub fn after_fork_in_parent() {
    GATE.fetch_sub(SHUTTER, Ordering::AcqRel);
}

/// After the fork, in the child: there is no thread but this.
pub fn after_fork_in_child() {
    GATE.store(HELD.get(), Ordering::Release);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_fork_waits_for_holders_and_holders_for_the_fork() {
        // One test for it all: the gate is the whole process's, and other tests hold it too.
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let holder = NoFork::hold();
            scope.spawn(|| {
                before_fork();
                assert!(is_over.load(Ordering::Acquire));
                let waiting = scope.spawn(|| {
                    let _held = NoFork::hold();
                    assert!(!is_over.load(Ordering::Acquire));
                });
                thread::sleep(Duration::from_millis(20));
                is_over.store(false, Ordering::Release);
                after_fork_in_parent();
                waiting.join().unwrap();
            });
            thread::sleep(Duration::from_millis(20));
            // Whoever holds it may hold it twice, whatever waits.
            drop(NoFork::hold());
            is_over.store(true, Ordering::Release);
            drop(holder);
        });
    }

    #[test]
    fn a_holder_that_waits_lets_a_fork_pass() {
        let _held = (NoFork::hold(), NoFork::hold());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                before_fork();
                after_fork_in_parent();
                is_over.store(true, Ordering::Release);
            });
            while !is_over.load(Ordering::Acquire) {
                let_fork_pass();
            }
        });
        assert_eq!(HELD.get(), 2);
    }

    #[test]
    fn a_holder_may_fork() {
        let _held = NoFork::hold();
        before_fork();
        after_fork_in_parent();
    }
}
