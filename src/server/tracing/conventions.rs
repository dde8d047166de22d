//! What spans say, in the words of OpenTelemetry's semantic conventions: for servers of HTTP, for
//! servers of gRPC, and for clients of databases. Each function puts attributes to `all` the others.

use std::net::SocketAddr;

use hyper::Version;
use hyper::header::{HOST, HeaderName, USER_AGENT};
use hyper::http::request::Parts;

use super::otlp::{AnyValue, KeyValue, attribute};
use super::span::StoreRead;
use crate::server::grpc::Code;
use crate::server::observed::Answered;

pub(super) fn put(all: &mut Vec<KeyValue>, key: &str, value: impl Into<AnyValue>) {
    all.push(attribute(key, value));
}

fn put_all<'a>(
    all: &mut Vec<KeyValue>,
    optional: impl IntoIterator<Item = (&'static str, Option<&'a str>)>,
) {
    all.extend(optional.into_iter().filter_map(|(key, value)| Some(attribute(key, value?))));
}

/// Who asks whom.
pub(super) fn put_sides(all: &mut Vec<KeyValue>, head: &Parts, client: SocketAddr) {
    let header = |name: HeaderName| head.headers.get(name)?.to_str().ok();
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let (address, port) = host_and_port(authority.or_else(|| header(HOST)).unwrap_or_default());
    put(all, "client.address", &*client.ip().to_string());
    put_all(all, [("server.address", address), ("user_agent.original", header(USER_AGENT))]);
    if let Some(port) = port {
        put(all, "server.port", i64::from(port));
    }
}

/// Of a request over HTTP; gives the span's name.
pub(super) fn put_http(all: &mut Vec<KeyValue>, head: &Parts, is_known: bool) -> String {
    let (method, path) = (head.method.as_str(), head.uri.path());
    let route = is_known.then_some(path);
    put(all, "http.request.method", method);
    put(all, "url.path", path);
    put(all, "network.protocol.version", version(head.version));
    put_all(all, [("http.route", route), ("url.query", head.uri.query())]);
    route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
}

/// Of a call; gives the span's name.
pub(super) fn put_call(all: &mut Vec<KeyValue>, head: &Parts, is_known: bool) -> String {
    let path = head.uri.path().trim_start_matches('/');
    put(all, "rpc.system", "grpc");
    if let Some((service, method)) = path.split_once('/') {
        put(all, "rpc.service", service);
        put(all, "rpc.method", method);
    }
    // Names that clients make up would be too many names.
    if is_known { path.to_owned() } else { "grpc".to_owned() }
}

/// How it ended, `None` where its client went away before that; whether that is the server's
/// failure, which a mistake of the client's is not.
pub(super) fn put_ending(all: &mut Vec<KeyValue>, answered: Option<Answered>) -> bool {
    match answered {
        None => put(all, "error.type", "client_gone"),
        Some(Answered::Http(status)) => {
            put(all, "http.response.status_code", i64::from(status));
            if status >= 500 {
                put(all, "error.type", &*status.to_string());
                return true;
            }
        }
        Some(Answered::Grpc(code)) => {
            put(all, "rpc.grpc.status_code", i64::from(code as u8));
            use Code::{DeadlineExceeded, Internal, Unavailable, Unimplemented};
            if matches!(code, DeadlineExceeded | Internal | Unavailable | Unimplemented) {
                put(all, "error.type", code.name());
                return true;
            }
        }
    }
    false
}

/// Of a read of the online store; gives the span's name.
pub(super) fn put_read(all: &mut Vec<KeyValue>, read: &StoreRead) -> String {
    const OPERATION: &str = "get_online_features";
    put(all, "db.operation.name", OPERATION);
    put(all, "feast.feature_views", read.views.as_slice());
    put(all, "feast.feature_count", i64::try_from(read.features).unwrap_or(i64::MAX));
    put(all, "feast.entity_count", i64::try_from(read.entities).unwrap_or(i64::MAX));
    put_all(all, [("feast.feature_service", read.service.as_deref())]);
    OPERATION.to_owned()
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
