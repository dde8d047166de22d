//! The span of one request, from its head to its answer, and that of the read in it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::Version;
use hyper::header::{HOST, HeaderName, USER_AGENT};
use hyper::http::request::Parts;

use super::context::Parent;
use super::otlp::{self, AnyValue, KeyValue, attribute};
use super::tracer::Tracer;
use crate::online::StoreTime;

/// A request under way. Dropped without an answer, its client has gone away.
pub(in super::super) struct Span<'a> {
    tracer: &'a Tracer,
    head: &'a Parts,
    client: SocketAddr,
    route: Option<&'static str>,
    begun: Instant,
    started: SystemTime,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent: Option<Parent>,
    status: Option<u16>,
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
    /// recorded. `route`: the path that is known for it.
    pub(in super::super) fn begin(
        tracer: &'a Tracer,
        head: &'a Parts,
        client: SocketAddr,
        route: Option<&'static str>,
        begun: Instant,
    ) -> Option<Self> {
        let parent = Parent::of(&head.headers);
        let trace_id =
            parent.as_ref().map_or_else(|| tracer.ids.trace_id(), |parent| parent.trace_id);
        // Made only if it is to be told of, which is done when it is dropped.
        tracer.sampler.takes(trace_id, parent.as_ref()).then(|| Span {
            tracer,
            head,
            client,
            route,
            begun,
            started: SystemTime::now(),
            trace_id,
            span_id: tracer.ids.span_id(),
            parent,
            status: None,
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

    /// The request has been answered.
    pub(in super::super) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    fn nanos(&self, at: Instant) -> u64 {
        let time = self.started + at.saturating_duration_since(self.begun);
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn message(&self, span_id: [u8; 8], name: String, kind: i32) -> otlp::Span {
        otlp::Span {
            trace_id: self.trace_id.to_vec(),
            span_id: span_id.to_vec(),
            trace_state: self.parent.as_ref().map(|one| one.state.clone()).unwrap_or_default(),
            name,
            kind,
            flags: 1,
            ..otlp::Span::default()
        }
    }

    /// OpenTelemetry's conventions for HTTP servers.
    fn server(&self) -> otlp::Span {
        let method = self.head.method.as_str();
        let name =
            self.route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        let mut span = self.message(self.span_id, name, otlp::SERVER);
        span.parent_span_id =
            self.parent.as_ref().map(|one| one.span_id.to_vec()).unwrap_or_default();
        span.start_time_unix_nano = self.nanos(self.begun);
        span.end_time_unix_nano = self.nanos(Instant::now());
        let all = &mut span.attributes;
        put(all, "http.request.method", method);
        put(all, "url.path", self.head.uri.path());
        put(all, "url.scheme", self.tracer.scheme);
        put(all, "client.address", &*self.client.ip().to_string());
        put(all, "network.protocol.version", version(self.head.version));
        let header = |name: HeaderName| self.head.headers.get(name)?.to_str().ok();
        let authority = self.head.uri.authority().map(|authority| authority.as_str());
        let (address, port) = host_and_port(authority.or_else(|| header(HOST)).unwrap_or_default());
        let optional = [
            ("http.route", self.route),
            ("url.query", self.head.uri.query()),
            ("server.address", address),
            ("user_agent.original", header(USER_AGENT)),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                put(all, key, value);
            }
        }
        if let Some(port) = port {
            put(all, "server.port", i64::from(port));
        }
        match self.status {
            Some(status) => put(all, "http.response.status_code", i64::from(status)),
            None => put(all, "error.type", "client_gone"),
        }
        if let Some(status @ 500..) = self.status {
            put(all, "error.type", &*status.to_string());
            span.status = Some(otlp::Status { message: String::new(), code: otlp::ERROR });
        }
        span
    }

    /// Those for clients of databases.
    fn client(&self, read: &StoreRead, parent: &otlp::Span) -> otlp::Span {
        let mut span =
            self.message(self.tracer.ids.span_id(), "get_online_features".to_owned(), otlp::CLIENT);
        span.parent_span_id.clone_from(&parent.span_id);
        span.start_time_unix_nano = self.nanos(read.time.begun);
        span.end_time_unix_nano = self.nanos(read.time.ended);
        let all = &mut span.attributes;
        put(all, "db.system.name", self.tracer.store);
        put(all, "db.operation.name", "get_online_features");
        put(all, "feast.project", &*self.tracer.project);
        put(all, "feast.feature_views", read.views.as_slice());
        put(all, "feast.feature_count", i64::try_from(read.features).unwrap_or(i64::MAX));
        put(all, "feast.entity_count", i64::try_from(read.entities).unwrap_or(i64::MAX));
        if let Some(service) = &read.service {
            put(all, "feast.feature_service", service.as_str());
        }
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

fn put(all: &mut Vec<KeyValue>, key: &str, value: impl Into<AnyValue>) {
    all.push(attribute(key, value));
}

/// Of an authority; the port is there unless it is the scheme's own.
fn host_and_port(authority: &str) -> (Option<&str>, Option<u16>) {
    let split = authority.rsplit_once(':');
    match split.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (Some(host), Some(port)),
        None => (Some(authority).filter(|host| !host.is_empty()), None),
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
