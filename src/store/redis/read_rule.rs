//! HGETALL or HMGET: whichever costs the server less for what is asked, by the number of fields
//! that the registry lets expect, and by what replies have shown since. Pure.
//!
//! In a listpack each field of an HMGET is searched for from the start, so that taking all is
//! cheaper from about a quarter of the fields on. In a hash table a field is found at once, and
//! taking all pays from about three quarters on. Either way it loses where most of the bytes
//! are of fields that nobody asked for, such as embeddings.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::config::ReadCommand;

/// A hash of more fields is a hash table (`hash-max-listpack-entries`, by default).
const LISTPACK_FIELDS: usize = 512;
/// A hash with a longer value is a hash table (`hash-max-listpack-value`, by default).
const LISTPACK_VALUE: usize = 64;
/// What a reply may weigh besides what was asked for.
const SPARE_BYTES: u32 = 1024;
/// While HMGET is used, one read in so many takes whole hashes, to see what they are like now.
const LOOK_EVERY: u32 = 1024;
/// Of so many hashes that could be learned from, one is.
const LEARN_EVERY: u32 = 16;
/// Hashes heavier than this are not looked at again.
const TOO_HEAVY: u32 = 64 << 10;

/// Decides for one group of views.
#[derive(Debug)]
pub(super) struct ReadRule {
    command: ReadCommand,
    asked: usize,
    expected: usize,
    seen: Seen,
}

/// What hashes were like: means, of which the last samples weigh most. No fields: not seen yet.
#[derive(Debug, Default)]
struct Seen {
    fields: AtomicU32,
    bytes: AtomicU32,
    asked_bytes: AtomicU32,
    has_long_value: AtomicBool,
    reads: AtomicU32,
    offers: AtomicU32,
}

impl ReadRule {
    /// For `asked` fields of hashes that are expected to have `expected`.
    pub(super) fn new(command: ReadCommand, asked: usize, expected: usize) -> Self {
        ReadRule { command, asked, expected: expected.max(asked), seen: Seen::default() }
    }

    /// Whether the next read takes whole hashes.
    pub(super) fn uses_hgetall(&self) -> bool {
        match self.command {
            ReadCommand::Hgetall => true,
            ReadCommand::Hmget => false,
            ReadCommand::Auto => self.pays() || self.looks(),
        }
    }

    /// How many fields hashes have, as far as is known.
    pub(super) fn fields(&self) -> usize {
        match self.seen.fields.load(Ordering::Relaxed) as usize {
            0 => self.expected,
            seen => seen,
        }
    }

    fn pays(&self) -> bool {
        let Seen { bytes, asked_bytes, has_long_value, .. } = &self.seen;
        let fields = self.fields();
        let (bytes, asked_bytes) =
            (bytes.load(Ordering::Relaxed), asked_bytes.load(Ordering::Relaxed));
        if bytes > asked_bytes.saturating_mul(4).saturating_add(SPARE_BYTES) {
            return false;
        }
        match has_long_value.load(Ordering::Relaxed) || fields > LISTPACK_FIELDS {
            false => self.asked * 4 >= fields,
            true => self.asked * 4 >= fields * 3,
        }
    }

    fn looks(&self) -> bool {
        let reads = self.seen.reads.fetch_add(1, Ordering::Relaxed);
        reads % LOOK_EVERY == LOOK_EVERY - 1
            && self.expected <= LISTPACK_FIELDS
            && self.seen.bytes.load(Ordering::Relaxed) <= TOO_HEAVY
    }

    /// Whether to [`learn`](Self::learn) from the hash at hand: from the first, then from one now
    /// and then, and from each that is taken whole only to see what it is like.
    pub(super) fn is_curious(&self) -> bool {
        let is_first = self.seen.fields.load(Ordering::Relaxed) == 0;
        let offers = self.seen.offers.fetch_add(1, Ordering::Relaxed);
        is_first || offers.is_multiple_of(LEARN_EVERY) || !self.pays()
    }

    /// Takes note of a whole hash, field and value in turn, and of what was wanted of it.
    pub(super) fn learn<'a>(
        &self,
        hash: impl Iterator<Item = Option<&'a [u8]>>,
        wanted: &[Option<&[u8]>],
    ) {
        let (mut strings, mut bytes, mut longest) = (0_usize, 0, 0);
        for string in hash.flatten() {
            strings += 1;
            bytes += string.len();
            longest = longest.max(string.len());
        }
        if strings == 0 {
            return;
        }
        let wanted = wanted.iter().flatten().map(|value| value.len() + 4).sum();
        average(&self.seen.fields, strings / 2);
        average(&self.seen.bytes, bytes);
        average(&self.seen.asked_bytes, wanted);
        self.seen.has_long_value.store(longest > LISTPACK_VALUE, Ordering::Relaxed);
    }
}

// Threads may overwrite each other's samples: one is as good as the other.
fn average(mean: &AtomicU32, sample: usize) {
    let sample = u32::try_from(sample).unwrap_or(u32::MAX);
    let next = match mean.load(Ordering::Relaxed) {
        0 => sample,
        old => old - old / 4 + sample / 4,
    };
    mean.store(next, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(rule: &ReadRule, values: &[&[u8]], wanted: usize) {
        let hash: Vec<Option<&[u8]>> =
            values.iter().flat_map(|value| [Some(&b"abcd"[..]), Some(*value)]).collect();
        let wanted: Vec<_> = values.iter().take(wanted).map(|value| Some(*value)).collect();
        rule.learn(hash.into_iter(), &wanted);
    }

    #[test]
    fn by_what_the_registry_lets_expect() {
        for (asked, expected, command, is_hgetall) in [
            (4, 4, ReadCommand::Auto, true),
            (4, 16, ReadCommand::Auto, true),
            (4, 17, ReadCommand::Auto, false),
            (4, 4, ReadCommand::Hmget, false),
            (4, 17, ReadCommand::Hgetall, true),
            (300, 600, ReadCommand::Auto, false),
            (500, 600, ReadCommand::Auto, true),
        ] {
            let rule = ReadRule::new(command, asked, expected);
            assert_eq!(rule.uses_hgetall(), is_hgetall, "{asked} of {expected}");
        }
    }

    #[test]
    fn replies_show_what_hashes_are_like() {
        let dead_fields = ReadRule::new(ReadCommand::Auto, 2, 4);
        learn(&dead_fields, &[&b"123456789"[..]; 20], 2);
        assert!(!dead_fields.uses_hgetall(), "2 of 20 fields");

        let short = ReadRule::new(ReadCommand::Auto, 10, 100);
        assert!(!short.uses_hgetall());
        learn(&short, &[&b"123456789"[..]; 10], 10);
        assert!(short.uses_hgetall(), "all that is there");

        let hash_table = ReadRule::new(ReadCommand::Auto, 2, 4);
        learn(&hash_table, &[&[1; 65][..]; 4], 2);
        assert!(!hash_table.uses_hgetall(), "half of a hash table");

        let embedding = ReadRule::new(ReadCommand::Auto, 4, 5);
        let values: [&[u8]; 5] = [&[1; 9], &[1; 9], &[1; 9], &[1; 9], &[1; 6000]];
        learn(&embedding, &values, 4);
        assert!(!embedding.uses_hgetall(), "an embedding that nobody asked for");
    }

    #[test]
    fn hashes_are_looked_at_now_and_then() {
        let rule = ReadRule::new(ReadCommand::Auto, 1, 100);

        let looks = (0..3 * LOOK_EVERY).filter(|_| rule.uses_hgetall()).count();

        assert_eq!(looks, 3);
    }

    #[test]
    fn the_first_hash_is_learned_from_and_then_one_now_and_then() {
        let rule = ReadRule::new(ReadCommand::Auto, 4, 4);

        assert!(rule.is_curious() && rule.is_curious(), "nothing is learned yet");
        learn(&rule, &[&b"123456789"[..]; 4], 4);
        let later = (0..10 * LEARN_EVERY).filter(|_| rule.is_curious()).count();
        assert_eq!(later, 10);
        learn(&rule, &[&[1; 6000][..]; 5], 0);
        assert!(!rule.pays() && (0..10).all(|_| rule.is_curious()));
    }

    #[test]
    fn an_absent_entity_teaches_nothing() {
        let rule = ReadRule::new(ReadCommand::Auto, 4, 4);
        learn(&rule, &[], 0);
        assert!(rule.uses_hgetall());
    }
}
