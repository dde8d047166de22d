//! The bodies and messages of calls under libFuzzer.
#![no_main]

use feastrs::fuzz;

#[global_allocator]
static ALLOCATOR: fuzz::Counting = fuzz::Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::frugally(fuzz::calls, input));
