//! The place of a request in a trace, as W3C Trace Context has it, and numbers for new places.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;

/// What a caller says of the span that its request is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) is_sampled: bool,
    /// The header `tracestate`, which is handed on as it came.
    pub(super) state: String,
}

impl Parent {
    /// From the headers of a request; `None`: there is none, or one that makes no sense.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all("traceparent").iter();
        let text = all.next().filter(|_| all.next().is_none())?.to_str().ok()?;
        let mut parent = Self::parse(text)?;
        let states = headers.get_all("tracestate").iter();
        let states: Vec<&str> = states.filter_map(|state| state.to_str().ok()).collect();
        parent.state = states.join(",");
        Some(parent)
    }

    /// `version-trace_id-span_id-flags`; later versions may have more after that.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version = bytes::<1>(parts.next()?)?;
        let (trace_id, span_id) = (bytes::<16>(parts.next()?)?, bytes::<8>(parts.next()?)?);
        let [flags] = bytes::<1>(parts.next()?)?;
        let has_more = parts.next().is_some();
        let is_valid = version != [0xff]
            && (version != [0] || !has_more)
            && trace_id != [0; 16]
            && span_id != [0; 8];
        let is_sampled = flags & 1 == 1;
        is_valid.then(|| Parent { trace_id, span_id, is_sampled, state: String::new() })
    }
}

/// `N` bytes in lower-case hexadecimal digits.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut all = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, digits) in all.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(all)
}

/// Numbers for traces and spans: other ones in each process, without a system call for each.
pub(super) struct Ids {
    seed: u64,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        // The standard library's hashers have random keys.
        Ids { seed: RandomState::new().build_hasher().finish(), next: AtomicU64::new(1) }
    }

    pub(super) fn trace_id(&self) -> [u8; 16] {
        let (high, low) = (self.number(), self.number());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    pub(super) fn span_id(&self) -> [u8; 8] {
        self.number().to_be_bytes()
    }

    /// SplitMix64 of a counter: no two are equal, and none is 0 but once in 2^64.
    fn number(&self) -> u64 {
        let step = self.next.fetch_add(1, Ordering::Relaxed);
        let mut mixed = self.seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_parent_is_what_the_standard_says() {
        let mut headers = HeaderMap::new();
        let text = format!("00-{TRACE}-b7ad6b7169203331-01");
        headers.insert("traceparent", text.parse().unwrap());
        headers.append("tracestate", "a=1".parse().unwrap());
        headers.append("tracestate", "b=2".parse().unwrap());

        let parent = Parent::of(&headers).unwrap();

        assert_eq!(parent.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(parent.span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
        assert!(parent.is_sampled);
        assert_eq!(parent.state, "a=1,b=2");
        headers.append("traceparent", text.parse().unwrap());
        assert_eq!(Parent::of(&headers), None, "two of them");
    }

    #[test]
    fn what_is_no_parent_begins_a_trace_anew() {
        let zeros = "0".repeat(32);
        for (text, is_valid) in [
            (format!("00-{TRACE}-b7ad6b7169203331-00"), true),
            (format!("cc-{TRACE}-b7ad6b7169203331-01-more"), true),
            (format!("00-{TRACE}-b7ad6b7169203331-01-more"), false),
            (format!("ff-{TRACE}-b7ad6b7169203331-01"), false),
            (format!("00-{zeros}-b7ad6b7169203331-01"), false),
            (format!("00-{TRACE}-0000000000000000-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()), false),
            (format!("00-{TRACE}-b7ad6b716920333-01"), false),
            (format!("00-{TRACE}"), false),
            (String::new(), false),
        ] {
            assert_eq!(Parent::parse(&text).is_some(), is_valid, "{text}");
        }
    }

    #[test]
    fn numbers_differ() {
        let ids = Ids::new();
        let mut all: Vec<_> = (0..1000).map(|_| ids.span_id()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1000);
        assert_ne!(Ids::new().trace_id(), ids.trace_id());
    }
}
