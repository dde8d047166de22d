//! A handle of one connection. The socket is opened, kept and closed by a task of its own;
//! commands may be sent before it is up, and wait for it.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::super::codec::{CommandBuffer, Replies};
use super::super::handshake::Handshake;
use super::super::pool::Target;
use super::driver::Driver;
use super::failure::Failure;
use super::outbox::{Receiver, SharedOutbox};
use super::stream::Stream;

/// When it is dropped, the connection is closed.
pub(in super::super) struct Connection {
    outbox: Arc<SharedOutbox>,
    node: Arc<str>,
}

impl Connection {
    /// Begins to connect; `runtime` drives it.
    pub(super) fn open(target: &Arc<Target>, runtime: &Handle) -> Self {
        let outbox = Arc::<SharedOutbox>::default();
        let alive = Alive { outbox: outbox.clone(), node: target.node.clone() };
        runtime.spawn(live(target.clone(), alive));
        Connection { outbox, node: target.node.clone() }
    }

    /// Sends `commands` behind those of others.
    pub(in super::super) fn send(
        &self,
        commands: &CommandBuffer,
    ) -> std::result::Result<Coming, Failure> {
        Ok(Coming { receiver: self.outbox.put(commands)?, node: self.node.clone() })
    }

    /// Whether it works, as far as is known. One that nobody used for long is not trusted: what
    /// lies between may have forgotten it.
    pub(super) fn is_usable(&self, target: &Target) -> bool {
        self.outbox.is_usable(target.options.health_check_interval)
    }
}

/// Replies that are on their way, as many as commands were sent. Whoever drops it leaves the
/// connection in order.
pub(in super::super) struct Coming {
    receiver: Receiver,
    node: Arc<str>,
}

impl Coming {
    pub(in super::super) async fn replies(self) -> std::result::Result<Replies, Failure> {
        // Who drops a slot without a word is a task that has panicked.
        self.receiver.await.unwrap_or_else(|_| Err(Failure::closed(&self.node)))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.outbox.fail(&Failure::closed(&self.node));
    }
}

/// The outbox as its task holds it: however the task ends, nobody goes on waiting.
struct Alive {
    outbox: Arc<SharedOutbox>,
    node: Arc<str>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.outbox.fail(&Failure::closed(&self.node));
    }
}

async fn live(target: Arc<Target>, alive: Alive) {
    let options = &target.options;
    let stream = match Stream::open(&target).await {
        Ok(stream) => stream,
        Err(failure) => return alive.outbox.fail(&failure),
    };
    let (outbox, node) = (alive.outbox.clone(), target.node.clone());
    let mut driver = Driver::new(stream, outbox, node, options.io_timeout);
    let failure = match introduce(&mut driver, &target).await {
        Err(failure) => failure,
        Ok(()) => driver.serve().await,
    };
    // The outbox first: who is told by the driver and tries again must find it closed.
    alive.outbox.fail(&failure);
    driver.fail(&failure);
}

async fn introduce(driver: &mut Driver, target: &Target) -> std::result::Result<(), Failure> {
    let mut commands = CommandBuffer::default();
    let mut handshake = Handshake::begin(&target.options, target.purpose, &mut commands);
    if handshake.is_complete() {
        return Ok(());
    }
    let replies = driver.exchange(&commands).await?;
    for reply in replies.iter() {
        handshake.judge(reply, &target.node).map_err(|error| Failure::refused(&error))?;
    }
    Ok(())
}
