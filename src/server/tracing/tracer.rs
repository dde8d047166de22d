//! Spans on their way: gathered in bounded memory, sent in batches, lost where nobody takes them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use super::collector::Collector;
use super::context::Ids;
use super::otlp;
use super::sampler::Sampler;
use super::settings::Settings;
use crate::error::Result;
use crate::server::options::Protocol;

/// Spans that may wait; those beyond are counted and thrown away.
const MAX_WAITING: usize = 8192;
/// Spans of one batch.
const BATCH: usize = 512;
/// How often it is looked whether a batch has gathered before its time.
const LOOK: Duration = Duration::from_millis(100);

/// What traces one server.
pub(in super::super) struct Tracer {
    pub(super) ids: Ids,
    pub(super) sampler: Sampler,
    pub(super) protocol: Protocol,
    pub(super) scheme: &'static str,
    pub(super) store: &'static str,
    pub(super) project: String,
    every: Duration,
    // Whoever has it sends.
    collector: Arc<AsyncMutex<Collector>>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    spans: Vec<otlp::Span>,
    lost: u64,
}

impl Tracer {
    /// For a server that speaks `protocol`, over TLS or not.
    pub(in super::super) fn new(
        settings: Settings,
        protocol: Protocol,
        is_encrypted: bool,
    ) -> Result<Self> {
        Ok(Tracer {
            ids: Ids::new(),
            sampler: settings.sampler,
            protocol,
            scheme: if is_encrypted { "https" } else { "http" },
            store: settings.store,
            project: settings.project.clone(),
            every: settings.every,
            collector: Arc::new(AsyncMutex::new(Collector::new(settings)?)),
            waiting: Arc::default(),
        })
    }

    /// Keeps what has ended until it is sent.
    pub(super) fn keep(&self, ended: impl Iterator<Item = otlp::Span>) {
        let mut waiting = lock(&self.waiting);
        for span in ended {
            match waiting.spans.len() < MAX_WAITING {
                true => waiting.spans.push(span),
                false => waiting.lost += 1,
            }
        }
    }

    /// Sends what gathers, for ever.
    pub(in super::super) async fn run(&self) {
        let mut waited = Duration::ZERO;
        loop {
            let pause = LOOK.min(self.every);
            tokio::time::sleep(pause).await;
            waited += pause;
            if waited >= self.every || lock(&self.waiting).spans.len() >= BATCH {
                self.flush().await;
                waited = Duration::ZERO;
            }
        }
    }

    /// Sends what has gathered, after what somebody else is sending, whom nobody may wait for any
    /// more.
    pub(in super::super) async fn flush(&self) {
        let (waiting, collector) = (self.waiting.clone(), self.collector.clone());
        let send = async move {
            let collector = collector.lock().await;
            let Waiting { mut spans, lost } = std::mem::take(&mut *lock(&waiting));
            if lost > 0 {
                log::warn!("{lost} spans are lost: they come faster than they are taken");
            }
            while !spans.is_empty() {
                let rest = spans.split_off(BATCH.min(spans.len()));
                collector.send(spans).await;
                spans = rest;
            }
        };
        let _ = tokio::spawn(send).await;
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Whoever panicked pushed a span or did not.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
