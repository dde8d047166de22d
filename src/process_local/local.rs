//! State that belongs to one process: what a forked child inherits it neither uses nor drops.
//!
//! A socket that two processes write to mixes their replies, and a SQLite connection closed in
//! the child releases the parent's file locks; a lock that another thread held at the moment of
//! the fork stays held. Must not know what it holds.

use std::mem::ManuallyDrop;
use std::sync::OnceLock;

use super::process_id;

/// One `T` for each process that asks for it.
///
/// A list of cells, not a map behind a lock: a lock that another thread held at the moment of
/// the fork would stay held in the child for ever.
pub struct ProcessLocal<T> {
    first: OnceLock<Box<Cell<T>>>,
}

impl<T> std::fmt::Debug for ProcessLocal<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessLocal").finish_non_exhaustive()
    }
}

struct Cell<T> {
    process: u32,
    value: ManuallyDrop<T>,
    next: OnceLock<Box<Cell<T>>>,
}

impl<T: Default> Default for ProcessLocal<T> {
    fn default() -> Self {
        ProcessLocal::new()
    }
}

impl<T: Default> ProcessLocal<T> {
    /// With no value yet.
    pub const fn new() -> Self {
        ProcessLocal { first: OnceLock::new() }
    }

    /// The value of this process, made on first use.
    pub fn get(&self) -> &T {
        let process = process_id();
        let mut slot = &self.first;
        loop {
            let cell = slot.get_or_init(|| Box::new(Cell::new(process)));
            if cell.process == process {
                return &cell.value;
            }
            slot = &cell.next;
        }
    }
}

impl<T: Default> Cell<T> {
    fn new(process: u32) -> Self {
        Cell { process, value: ManuallyDrop::new(T::default()), next: OnceLock::new() }
    }
}

impl<T> Drop for ProcessLocal<T> {
    fn drop(&mut self) {
        let process = process_id();
        let mut next = self.first.take();
        while let Some(mut cell) = next {
            next = cell.next.take();
            let Cell { process: owner, value, .. } = *cell;
            if owner == process {
                drop(ManuallyDrop::into_inner(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn one_value_for_one_process() {
        let local: ProcessLocal<Mutex<u32>> = ProcessLocal::new();

        *local.get().lock().unwrap() += 1;
        *local.get().lock().unwrap() += 1;

        assert_eq!(*local.get().lock().unwrap(), 2);
    }
}
