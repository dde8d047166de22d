//! Fresh version ids for a registry: random UUIDs (version 4), as Feast makes them.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A new id. The process id and the time are hashed in, for a forked child has its parent's
/// random keys.
pub(super) fn new_version_id() -> String {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed =
        (std::process::id(), since_epoch.as_nanos(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let high = RandomState::new().hash_one((seed, "high"));
    let low = RandomState::new().hash_one((seed, "low"));
    let hex = format!("{high:016x}{low:016x}");
    let variant = match low >> 60 & 3 {
        0 => '8',
        1 => '9',
        2 => 'a',
        _ => 'b',
    };
    let (a, b, c) = (&hex[..8], &hex[8..12], &hex[13..16]);
    format!("{a}-{b}-4{c}-{variant}{}-{}", &hex[17..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_and_differ() {
        let (one, two) = (new_version_id(), new_version_id());
        assert_ne!(one, two);
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]));
    }
}
