//! How far a server is on its way from start to end: a word that everybody looks at, and that
//! only goes forward.

use std::time::Duration;

use tokio::sync::watch;

use crate::error::Result;
use crate::runtime;

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests are taken.
    Serving,
    /// It was asked to stop: requests are still taken, connections close after them.
    Draining,
    /// Nothing new is taken; what is in flight ends.
    Closing,
    /// What is still in flight is given up.
    Aborting,
    /// It has ended.
    Over,
}

/// The phase of one server.
#[derive(Debug)]
pub struct Progress(watch::Sender<Phase>);

impl Default for Progress {
    fn default() -> Self {
        Progress(watch::Sender::new(Phase::Serving))
    }
}

impl Progress {
    /// The phase now.
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Goes on to `phase`, unless it is already there or further.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let is_news = *now < phase;
            *now = phase.max(*now);
            is_news
        });
    }

    /// Waits until `phase` is reached.
    pub async fn reached(&self, phase: Phase) {
        // The sender is `self`: it is not dropped meanwhile.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// The same, on a thread that is none of the runtime's, for so long; whether it is reached.
    pub fn wait(&self, phase: Phase, timeout: Duration) -> Result<bool> {
        let reached = async { tokio::time::timeout(timeout, self.reached(phase)).await.is_ok() };
        Ok(runtime::handle()?.block_on(reached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_only_goes_forward() {
        let progress = Progress::default();
        assert!(!progress.wait(Phase::Closing, Duration::ZERO).unwrap());
        progress.advance(Phase::Aborting);
        progress.advance(Phase::Draining);
        assert_eq!(progress.now(), Phase::Aborting);
        assert!(progress.wait(Phase::Closing, Duration::ZERO).unwrap());
    }
}
