//! What readers and the task of a connection share: commands on their way out, and for whom
//! the replies are.

use std::sync::{Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::codec::{CommandBuffer, Replies};
use super::failure::Failure;

/// Where the replies to some commands arrive, all at once.
pub(super) type Receiver = oneshot::Receiver<Result<Replies, Failure>>;

/// Who waits for the replies to some commands; whoever has gone away closes its end.
pub(super) struct Slot {
    /// How many replies are still to come.
    pub(super) missing: usize,
    pub(super) received: Replies,
    pub(super) reader: oneshot::Sender<Result<Replies, Failure>>,
}

/// Commands that the task has not taken yet.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) commands: CommandBuffer,
    pub(super) slots: Vec<Slot>,
    /// When commands were last put into it.
    used: Option<Instant>,
    /// Set once, when the connection is of no use any more.
    pub(super) failure: Option<Failure>,
    /// How to wake the task, where it sleeps.
    pub(super) waker: Option<Waker>,
}

/// An [`Outbox`] that many put into.
#[derive(Default)]
pub(super) struct SharedOutbox(Mutex<Outbox>);

impl SharedOutbox {
    pub(super) fn lock(&self) -> MutexGuard<'_, Outbox> {
        // Nothing that can panic runs under the lock: the outbox is whole.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Puts `commands` behind those that are there; the replies come to the receiver.
    pub(super) fn put(&self, commands: &CommandBuffer) -> Result<Receiver, Failure> {
        let (reader, receiver) = oneshot::channel();
        let missing = commands.commands();
        let mut outbox = self.lock();
        if let Some(failure) = &outbox.failure {
            return Err(failure.clone());
        }
        outbox.commands.append(commands);
        outbox.used = Some(Instant::now());
        outbox.slots.push(Slot { missing, received: Replies::default(), reader });
        let waker = outbox.waker.take();
        drop(outbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(receiver)
    }

    /// Whether nothing has gone wrong, and commands were put into it not longer than `max_idle`
    /// ago.
    pub(super) fn is_usable(&self, max_idle: Option<Duration>) -> bool {
        let outbox = self.lock();
        let is_trusted = match (outbox.used, max_idle) {
            (Some(used), Some(max_idle)) => used.elapsed() <= max_idle,
            _ => true,
        };
        outbox.failure.is_none() && is_trusted
    }

    /// Refuses commands from now on and tells everybody who waits in the outbox why. The
    /// first failure stays. The task, if it sleeps, is woken.
    pub(super) fn fail(&self, failure: &Failure) {
        let mut outbox = self.lock();
        let failure = outbox.failure.get_or_insert_with(|| failure.clone()).clone();
        let slots = std::mem::take(&mut outbox.slots);
        let waker = outbox.waker.take();
        drop(outbox);
        for slot in slots {
            // Who has gone away need not know.
            let _ = slot.reader.send(Err(failure.clone()));
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
