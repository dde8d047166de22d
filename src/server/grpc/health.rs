//! `grpc.health.v1.Health`: what `/ready` says, for each service and for all of them (""), when
//! asked, or whenever it changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream;
use tokio::sync::watch;

use super::body::{Messages, end, message};
use super::frame::{broken, frame};
use super::methods::SERVICES;
use super::status::{Code, Status};
use crate::server::budget::{Budget, Share};
use crate::server::phase::Phase;
use crate::server::shared::Shared;
use crate::value::wire::reader::{Payload, Reader, text};

/// `HealthCheckResponse` with one of its three states.
const SERVING: &[u8] = &[0x08, 1];
const NOT_SERVING: &[u8] = &[0x08, 2];
const SERVICE_UNKNOWN: &[u8] = &[0x08, 3];
/// How long the online store may take to answer; who asks for health does not wait for long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked, while somebody watches.
const LOOK: Duration = Duration::from_secs(1);

/// Whether the server is ready, as those know it who watch.
pub(in crate::server) struct Health {
    ready: watch::Sender<bool>,
    streams: Arc<Budget>,
}

impl Health {
    /// Of a server that has at most so many streams open at one time.
    pub(in crate::server) fn new(streams: usize) -> Self {
        Health { ready: watch::Sender::new(false), streams: Budget::new(streams) }
    }

    /// Looks whether anything changes, for ever.
    pub(in crate::server) async fn run(&self, server: &Shared) {
        while server.progress.now() == Phase::Serving {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = server.progress.reached(Phase::Draining) => {}
            }
            if self.ready.receiver_count() > 0 {
                self.look(server).await;
            }
        }
    }

    async fn look(&self, server: &Shared) {
        let is_ready = is_ready(server).await;
        self.ready.send_if_modified(|known| std::mem::replace(known, is_ready) != is_ready);
    }

    /// Admits one more stream that may last.
    pub(super) fn stream(&self) -> Result<Share, Status> {
        self.streams.take(1).ok_or_else(|| {
            Status::new(Code::ResourceExhausted, "too many streams are open on this server")
        })
    }
}

async fn is_ready(server: &Shared) -> bool {
    server.progress.now() == Phase::Serving
        && server.app.ping(Instant::now() + PATIENCE).await.is_ok()
}

/// The answer to one question.
pub(super) async fn check(server: &Shared, request: &[u8]) -> Result<&'static [u8], Status> {
    let service = service(request)?;
    if !is_known(service) {
        let text = format!("this server has no service '{service}'");
        return Err(Status::new(Code::NotFound, text));
    }
    Ok(if is_ready(server).await { SERVING } else { NOT_SERVING })
}

/// The state now, and again when it changes, until the server stops.
pub(super) async fn watch(server: &Arc<Shared>, request: &[u8]) -> Result<Messages, Status> {
    let is_known = is_known(service(request)?);
    let share = server.health.stream()?;
    let ready = server.health.ready.subscribe();
    server.health.look(server).await;
    let watcher = Watcher { server: server.clone(), ready, is_known, told: None, _share: share };
    let next = |watcher: Option<Watcher>| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Some(state) => Some((message(frame(state)), Some(watcher))),
            None => {
                let status = Status::new(Code::Unavailable, "the server is stopping");
                Some((end(&status), None))
            }
        }
    };
    Ok(Box::pin(stream::unfold(Some(watcher), next)))
}

/// Somebody who watches.
struct Watcher {
    server: Arc<Shared>,
    ready: watch::Receiver<bool>,
    is_known: bool,
    told: Option<&'static [u8]>,
    _share: Share,
}

impl Watcher {
    /// The next state that is another than the last; `None`: the server stops.
    async fn next(&mut self) -> Option<&'static [u8]> {
        loop {
            let state = match (self.is_known, *self.ready.borrow_and_update()) {
                (false, _) => SERVICE_UNKNOWN,
                (true, true) => SERVING,
                (true, false) => NOT_SERVING,
            };
            if self.told.replace(state) != Some(state) {
                return Some(state);
            }
            tokio::select! {
                changed = self.ready.changed() => changed.ok()?,
                () = self.server.progress.reached(Phase::Closing) => return None,
            }
        }
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

/// The name in a `HealthCheckRequest`.
fn service(request: &[u8]) -> Result<&str, Status> {
    let mut service = "";
    let mut reader = Reader::new(request);
    let no_request = |_| broken("these bytes are no grpc.health.v1.HealthCheckRequest");
    while let Some(field) = reader.field().map_err(no_request)? {
        if let (1, Payload::Bytes(name)) = field {
            service = text(name).map_err(no_request)?;
        }
    }
    Ok(service)
}
