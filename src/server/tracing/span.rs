//! The span of one request, from its head to its answer, and that of the read in it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::http::request::Parts;

use super::context::Parent;
use super::conventions::{self, put};
use super::otlp;
use super::tracer::Tracer;
use crate::online::StoreTime;
use crate::server::observed::Answered;
use crate::server::options::Protocol;

/// A request under way. Dropped without an answer, its client has gone away.
pub(in super::super) struct Span<'a> {
    tracer: &'a Tracer,
    head: &'a Parts,
    client: SocketAddr,
    is_known: bool,
    begun: Instant,
    started: SystemTime,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent: Option<Parent>,
    pub(in super::super) answered: Option<Answered>,
    read: Option<StoreRead>,
}

/// What was read of the online store for a request.
pub(in super::super) struct StoreRead {
    pub(in super::super) time: StoreTime,
    pub(in super::super) views: Vec<String>,
    pub(in super::super) service: Option<String>,
    pub(in super::super) features: usize,
    pub(in super::super) entities: usize,
}

tokio::task_local! {
    // What the request that this task works on has read, if it is watched.
    static READ: Cell<Option<StoreRead>>;
}

/// Tells of a read, which is described only if somebody watches.
pub(in super::super) fn note_read(describe: impl FnOnce() -> StoreRead) {
    let _ = READ.try_with(|read| read.set(Some(describe())));
}

impl<'a> Span<'a> {
    /// A span for the request with that head, which began at `begun`; `None`: it is not to be
    /// recorded. `is_known`: whether a path is one of the server's own.
    pub(in super::super) fn begin(
        tracer: &'a Tracer,
        head: &'a Parts,
        client: SocketAddr,
        begun: Instant,
        is_known: impl FnOnce(&str) -> bool,
    ) -> Option<Self> {
        let parent = Parent::of(&head.headers);
        let trace_id =
            parent.as_ref().map_or_else(|| tracer.ids.trace_id(), |parent| parent.trace_id);
        // Made only if it is to be told of, which is done when it is dropped.
        tracer.sampler.takes(trace_id, parent.as_ref()).then(|| Span {
            tracer,
            head,
            client,
            is_known: is_known(head.uri.path()),
            begun,
            started: SystemTime::now(),
            trace_id,
            span_id: tracer.ids.span_id(),
            parent,
            answered: None,
            read: None,
        })
    }

    /// The numbers of its trace and of itself, as they are written.
    pub(in super::super) fn place(&self) -> (String, String) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        (hex(&self.trace_id), hex(&self.span_id))
    }

    /// Does `work` for the request, and takes note of what it reads.
    pub(in super::super) async fn watch<T>(&mut self, work: impl Future<Output = T>) -> T {
        let watched = async { (work.await, READ.with(Cell::take)) };
        let (outcome, read) = READ.scope(Cell::new(None), watched).await;
        self.read = read;
        outcome
    }

    fn nanos(&self, at: Instant) -> u64 {
        let time = self.started + at.saturating_duration_since(self.begun);
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn message(&self, span_id: [u8; 8], kind: i32) -> otlp::Span {
        otlp::Span {
            trace_id: self.trace_id.to_vec(),
            span_id: span_id.to_vec(),
            trace_state: self.parent.as_ref().map(|one| one.state.clone()).unwrap_or_default(),
            kind,
            flags: 1,
            ..otlp::Span::default()
        }
    }

    fn server(&self) -> otlp::Span {
        let mut span = self.message(self.span_id, otlp::SERVER);
        span.parent_span_id =
            self.parent.as_ref().map(|one| one.span_id.to_vec()).unwrap_or_default();
        span.start_time_unix_nano = self.nanos(self.begun);
        span.end_time_unix_nano = self.nanos(Instant::now());
        let all = &mut span.attributes;
        conventions::put_sides(all, self.head, self.client);
        span.name = match self.tracer.protocol {
            Protocol::Http => {
                put(all, "url.scheme", self.tracer.scheme);
                conventions::put_http(all, self.head, self.is_known)
            }
            Protocol::Grpc => conventions::put_call(all, self.head, self.is_known),
        };
        if conventions::put_ending(all, self.answered) {
            span.status = Some(otlp::Status { message: String::new(), code: otlp::ERROR });
        }
        span
    }

    fn client(&self, read: &StoreRead, parent: &otlp::Span) -> otlp::Span {
        let mut span = self.message(self.tracer.ids.span_id(), otlp::CLIENT);
        span.parent_span_id.clone_from(&parent.span_id);
        span.start_time_unix_nano = self.nanos(read.time.begun);
        span.end_time_unix_nano = self.nanos(read.time.ended);
        let all = &mut span.attributes;
        put(all, "db.system.name", self.tracer.store);
        put(all, "feast.project", &*self.tracer.project);
        span.name = conventions::put_read(all, read);
        span
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        let server = self.server();
        let client = self.read.as_ref().map(|read| self.client(read, &server));
        self.tracer.keep(client.into_iter().chain([server]));
    }
}
