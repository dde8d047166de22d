//! What is fuzzed: functions over any bytes that panic where a property does not hold. Only
//! tests and fuzzers compile this; it must not be used by anything else.
//!
//! `make fuzz` runs them on mutations of the kept corpus (`tests/fuzz/corpus`), `make
//! fuzz-coverage` under libFuzzer. Where a finding was kept, its input is in the corpus.

mod allocation;
#[cfg(test)]
mod mutate;

pub use crate::online::fuzz::values;
pub use crate::server::fuzz::requests;
pub use crate::server::grpc::fuzz::calls;
pub use crate::store::redis::fuzz::replies;

pub use allocation::Counting;

/// Runs `target` and panics when it has more than a small multiple of the input's bytes
/// allocated at once: lengths that stand in the input must not be trusted.
pub fn frugally(target: fn(&[u8]), input: &[u8]) {
    let peak = allocation::peak_of(|| target(input));
    // A value of one byte becomes a tree node of 40, in a vector that has room for more.
    let limit = 64 * 1024 + input.len() * 512;
    assert!(peak <= limit, "{peak} bytes allocated at once for {} of input", input.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_hold_what_they_promise() {
        mutate::run("calls", calls);
    }

    #[test]
    fn replies_hold_what_they_promise() {
        mutate::run("replies", replies);
    }

    #[test]
    fn requests_hold_what_they_promise() {
        mutate::run("requests", requests);
    }

    #[test]
    fn values_hold_what_they_promise() {
        mutate::run("values", values);
    }

    #[test]
    fn allocations_are_seen() {
        let peak = allocation::peak_of(|| drop(Vec::<u8>::with_capacity(1000)));

        assert!((1000..2000).contains(&peak), "{peak}");
    }
}
