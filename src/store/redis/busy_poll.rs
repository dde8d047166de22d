//! Whether to look for a reply again and again before waiting for it. A server nearby answers
//! a small read sooner than a thread falls asleep and is woken; where it does not, because it is
//! far away or wants the very processor that is used for looking, looking is in vain and hardly
//! ever tried. Must not know sockets.

use std::time::{Duration, Instant};

/// Whoever sends more commands at once waits longer than is worth looking.
const COMMANDS: usize = 16;
/// One time in vain costs as much as so many successes gain.
const IN_VAIN: u32 = 8;
/// So many successes are remembered.
const MAX_TRUST: u32 = 2 * IN_VAIN;
/// So many requests go by before it is tried again; after that was in vain, too, twice as many.
const PAUSE: u32 = 1_000;
const MAX_PAUSE: u32 = 16_000;

/// What one connection has learnt.
pub(super) struct BusyPoll {
    budget: Duration,
    trust: u32,
    // Requests that still go by before it is tried again, and how many will the next time.
    paused: u32,
    pause: u32,
}

impl BusyPoll {
    /// Looks for `budget` at most; for zero, never.
    pub(super) fn new(budget: Duration) -> Self {
        BusyPoll { budget, trust: 0, paused: 0, pause: PAUSE }
    }

    /// Until when to look for the reply to a request of so many commands; `None`: not at all.
    pub(super) fn until(&mut self, commands: usize) -> Option<Instant> {
        if commands > COMMANDS || self.budget.is_zero() {
            return None;
        }
        if self.paused > 0 {
            self.paused -= 1;
            return None;
        }
        Some(Instant::now() + self.budget)
    }

    /// Learns whether the reply came while it was looked for.
    pub(super) fn learn(&mut self, has_come: bool) {
        if has_come {
            self.trust = (self.trust + 1).min(MAX_TRUST);
            self.pause = PAUSE;
        } else if self.trust >= IN_VAIN {
            self.trust -= IN_VAIN;
        } else {
            (self.trust, self.paused) = (0, self.pause);
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_micros(50);

    /// How many of so many requests look for their reply, which comes in time unless it is one
    /// of every so many.
    fn looks(requests: usize, late_every: usize) -> usize {
        let mut poll = BusyPoll::new(BUDGET);
        let looked = (1..=requests).filter(|request| {
            let looks = poll.until(1).is_some();
            if looks {
                poll.learn(request % late_every != 0);
            }
            looks
        });
        looked.count()
    }

    #[test]
    fn replies_are_looked_for_where_nearly_all_of_them_come_soon() {
        assert_eq!(looks(100_000, usize::MAX), 100_000);
        assert_eq!(looks(100_000, 20), 100_000);
    }

    #[test]
    fn looking_in_vain_is_given_up_and_rarely_tried_again() {
        assert!(looks(1_000_000, 1) < 100);
        assert!(looks(1_000_000, 2) < 10_000);
        assert!(looks(1_000_000, 5) < 20_000);
    }

    #[test]
    fn it_is_tried_again_and_then_trusted() {
        let mut poll = BusyPoll::new(BUDGET);
        poll.learn(false);

        let paused = (0..2_000).filter(|_| poll.until(1).is_none()).count();

        assert_eq!(paused, PAUSE as usize);
    }

    #[test]
    fn nobody_looks_for_the_replies_to_many_commands_or_without_a_budget() {
        let mut poll = BusyPoll::new(BUDGET);

        assert!(poll.until(COMMANDS).is_some() && poll.until(COMMANDS + 1).is_none());
        assert!(BusyPoll::new(Duration::ZERO).until(1).is_none());
    }
}
