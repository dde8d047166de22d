//! When what failed is tried again: with growing pauses, each of a random length so that many
//! clients do not come back at once, and not for longer than one answer may take. Must not
//! know what is tried.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use crate::call::{Call, WAIT_SLICE};
use crate::error::{Error, ErrorKind, Result};

/// The second attempt follows the first at once: most failures are connections that the server
/// has closed meanwhile. The third waits about as long as this, the next twice that, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(8);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The attempts of one call.
pub(super) struct Retry {
    budget: Duration,
    started: Option<Instant>,
    failures: u32,
}

impl Retry {
    /// Tries for `budget`, counted from the first failure.
    pub(super) fn new(budget: Duration) -> Self {
        Retry { budget, started: None, failures: 0 }
    }

    /// How often it has failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Waits until it is worth another attempt; gives `error` back if there is to be none: it
    /// would end the same way, or the time is up.
    pub(super) fn pause(&mut self, error: Error, call: &Call<'_>) -> Result<()> {
        let until = self.next_attempt(error, call.deadline)?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(WAIT_SLICE));
            call.check()?;
        }
    }

    /// The same, awaited; whoever awaits it minds the deadline himself.
    pub(super) async fn pause_async(&mut self, error: Error) -> Result<()> {
        let until = self.next_attempt(error, None)?;
        tokio::time::sleep_until(until.into()).await;
        Ok(())
    }

    fn next_attempt(&mut self, error: Error, deadline: Option<Instant>) -> Result<Instant> {
        if error.kind() != ErrorKind::StoreUnavailable {
            return Err(error);
        }
        let pause = self.next_pause();
        let now = Instant::now();
        let end = *self.started.get_or_insert(now) + self.budget;
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        if now + pause > end {
            return Err(error);
        }
        Ok(now + pause)
    }

    fn next_pause(&mut self) -> Duration {
        self.failures += 1;
        let Some(doublings) = self.failures.checked_sub(2) else { return Duration::ZERO };
        let whole = FIRST_PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE);
        // From a half to the whole of it; a hasher's seed is random enough for that.
        let share = RandomState::new().hash_one(self.failures) % 512 + 512;
        whole.mul_f64(share as f64 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Interrupt;

    fn lost() -> Error {
        Error::new(ErrorKind::StoreUnavailable, "gone")
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut retry = Retry::new(Duration::from_secs(1));

        assert_eq!(retry.next_pause(), Duration::ZERO);
        for doublings in 0..20 {
            let whole = FIRST_PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE);
            let pause = retry.next_pause();
            assert!(pause <= whole && pause >= whole / 2, "{pause:?} of {whole:?}");
        }
    }

    #[test]
    fn only_what_may_pass_and_only_for_so_long() {
        let call = Call::unlimited();
        let mut retry = Retry::new(Duration::from_millis(30));
        let denied = Error::new(ErrorKind::StoreDenied, "no");

        assert_eq!(retry.pause(denied, &call).unwrap_err().kind(), ErrorKind::StoreDenied);
        let started = Instant::now();
        while retry.pause(lost(), &call).is_ok() {}
        assert!(retry.failures() > 2 && started.elapsed() < Duration::from_millis(500));

        struct Stop;
        impl Interrupt for Stop {
            fn check(&self) -> Result<()> {
                Err(Error::new(ErrorKind::Interrupted, "enough"))
            }
        }
        let stopped = Call { deadline: None, interrupt: &Stop };
        let mut retry = Retry::new(Duration::from_secs(9));
        assert!(retry.pause(lost(), &stopped).is_ok(), "the second attempt does not wait");
        let error = retry.pause(lost(), &stopped).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);

        let soon = Call { deadline: Some(Instant::now()), ..Call::unlimited() };
        let mut retry = Retry::new(Duration::from_secs(9));
        while retry.pause(lost(), &soon).is_ok() {}
        assert!(retry.failures() <= 2);
    }
}
