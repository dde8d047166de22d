//! Mutations of a corpus, the same ones in every run; the time decides how many. It has no eye
//! for coverage: the corpus, which libFuzzer found, stands for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Without `FEASTRS_FUZZ_SECONDS`: a glance, as part of the unit tests.
const SECONDS: u64 = 2;
const MAX_LEN: usize = 4096;
/// What the formats are made of.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"$0\r\n\r\n",
    b"$4\r\n",
    b"$10\r\n",
    b"$99\r\n",
    b"$100\r\n",
    b"*2\r\n",
    b"*6\r\n",
    b"+OK\r\n",
    b":1\r\n",
    b"-NOPERM \r\n",
    b"_ts:driver",
    b"\x20",
    b"\x29",
    b"\x12",
    b"\x40",
    b"\x0a",
    b"\x98\x01\x00",
    b"\x72",
    b"\x92\x01",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\"entities\":{",
    b"\"features\":[",
    b"\"k\":[1]",
    b"\\u00fc",
    b"\\ud83d\\ude00",
    b"1e400",
    b"-9223372036854775808",
    b"NaN",
    b"null",
    b"\x00\x00\x00\x00\x05",
    b"\x1a\x0c\x0a\x01k",
    b"\x12\x07\x0a\x05",
    b"\"",
    b",",
    b"[",
    b"]",
    b"}",
];

/// Gives `target` the corpus of that name, then mutations of it until the time is up. Panics
/// with the input for which the target panics.
pub(super) fn run(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    corpus.iter().for_each(|input| check(target, input));
    let seconds = std::env::var("FEASTRS_FUZZ_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut dice, mut runs) = (Dice(0x5eed), 0u64);
    while Instant::now() < end {
        for _ in 0..64 {
            let input = mutated(&corpus, &mut dice);
            check(target, &input);
            runs += 1;
        }
    }
    println!("{name}: {} inputs kept, {runs} mutations in {seconds} s, all hold", corpus.len());
}

fn check(target: fn(&[u8]), input: &[u8]) {
    let held = catch_unwind(AssertUnwindSafe(|| super::frugally(target, input)));
    assert!(held.is_ok(), "the input was b\"{}\"", input.escape_ascii());
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no corpus in {}", folder.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One of the corpus, changed at one to eight places.
fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = dice.one_of(corpus).clone();
    for _ in 0..=dice.below(8) {
        mutate(&mut input, corpus, dice);
    }
    input.truncate(MAX_LEN);
    input
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(input.len() + 1);
    let end = at + dice.below((input.len() - at).min(32) + 1);
    match dice.below(9) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => input.insert(at, dice.next() as u8),
        3 => drop(input.splice(at..at, dice.one_of(TOKENS).iter().copied())),
        4 => drop(input.splice(at..end, dice.one_of(TOKENS).iter().copied())),
        5 => input.extend_from_within(at..end),
        6 => {
            let other = dice.one_of(corpus);
            let from = dice.below(other.len() + 1);
            let to = from + dice.below((other.len() - from).min(64) + 1);
            input.splice(at..end, other[from..to].iter().copied());
        }
        kind => {
            let Some(byte) = input.get_mut(at) else { return };
            *byte = match kind {
                7 => *byte ^ (1 << dice.below(8)),
                _ => *dice.one_of(&[0, 1, 4, 0x7f, 0x80, 0xff, b'0', b'9', b'\r', b'\n']),
            };
        }
    }
}

/// Splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}
