//! A number of things that may be in use at one time: connections, requests, bytes of bodies.
//! Nobody waits for a share; who gets none is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So much may be taken at one time.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    taken: AtomicUsize,
}

/// What was taken of a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Budget>,
    size: usize,
}

impl Budget {
    /// A budget of `limit`.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget { limit, taken: AtomicUsize::new(0) })
    }

    /// How much is taken now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes `size`; `None` where that is more than is left.
    pub fn take(self: &Arc<Self>, size: usize) -> Option<Share> {
        let mut share = Share { of: self.clone(), size: 0 };
        share.grow(size).then_some(share)
    }
}

impl Share {
    /// Takes `size` more; `false` where that is more than is left.
    pub fn grow(&mut self, size: usize) -> bool {
        let before = self.of.taken.fetch_add(size, Ordering::Relaxed);
        if before.saturating_add(size) > self.of.limit {
            self.of.taken.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        self.size += size;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = Budget::new(10);
        let mut share = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(share.grow(4) && !share.grow(1));
        assert_eq!(budget.taken(), 10);
        drop(share);
        assert_eq!(budget.taken(), 0);
    }
}
