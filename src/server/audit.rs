//! The audit log: who has asked for what, one JSON object for each request, under the names that
//! Feast has for those over HTTP (`feast/audit/audit_logger.py`, `audit_middleware.py`). Nothing of
//! tokens, rows or values is in it.

use std::fs::OpenOptions;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Instant;

use chrono::{SecondsFormat, Utc};
use hyper::http::request::Parts;
use serde::Serialize;

use super::auth::Principal;
use super::grpc::Code;
use super::lines::Lines;
use super::observed::Answered;
use super::options::Protocol;
use crate::config::{AuditConfig, AuditSink};
use crate::error::{Error, ErrorKind, Result};

/// The logger that audit events go to where they go to one.
pub(crate) const LOGGER: &str = "feast.audit";
/// The status of a request over HTTP whose client went away before the answer.
const CLIENT_GONE: u16 = 499;

/// Paths, what they are about, and what is done to that.
const RESOURCES: &[(&str, &str, &[&str])] = &[
    ("/get-online-features", "feature_service", &["READ_ONLINE"]),
    ("/retrieve-online-documents", "feature_service", &["READ_ONLINE"]),
    ("/push", "push_source", &["WRITE_ONLINE", "WRITE_OFFLINE"]),
    ("/write-to-online-store", "feature_view", &["WRITE_ONLINE"]),
    ("/materialize", "feature_view", &["WRITE_ONLINE"]),
    ("/materialize-incremental", "feature_view", &["WRITE_ONLINE"]),
    ("/feast.serving.ServingService/GetOnlineFeatures", "feature_service", &["READ_ONLINE"]),
    ("/GrpcFeatureServer/GetOnlineFeatures", "feature_service", &["READ_ONLINE"]),
    ("/GrpcFeatureServer/Push", "push_source", &["WRITE_ONLINE", "WRITE_OFFLINE"]),
    ("/GrpcFeatureServer/WriteToOnlineStore", "feature_view", &["WRITE_ONLINE"]),
];

/// The audit log of one server.
pub(super) struct Audit {
    // `None`: a logger.
    lines: Option<Lines>,
    logs_reads: bool,
    protocol: Protocol,
}

/// One request, told of when it is dropped: also where its client went away.
pub(super) struct Audited<'a> {
    audit: &'a Audit,
    head: &'a Parts,
    client: SocketAddr,
    begun: Instant,
    /// Its trace and its span, if it is traced.
    pub(super) place: Option<(String, String)>,
    /// Who makes it, once that is known.
    pub(super) principal: OnceLock<Principal>,
    /// `None`: there was none yet.
    pub(super) answered: Option<Answered>,
}

#[derive(Serialize)]
struct Event<'a> {
    event_type: &'static str,
    timestamp: String,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<&'a str>,
    principal: Who<'a>,
    source: Source<'a>,
    action: Doing<'a>,
    resource: Resource,
    outcome: &'static str,
    duration_ms: f64,
    detail: String,
}

#[derive(Serialize)]
struct Who<'a> {
    username: &'a str,
    roles: &'a [String],
    auth_type: &'a str,
}

#[derive(Serialize)]
struct Source<'a> {
    ip: &'a str,
    transport: &'static str,
}

#[derive(Serialize)]
struct Doing<'a> {
    mcp_tool: &'static str,
    path: &'a str,
}

#[derive(Serialize)]
struct Resource {
    r#type: &'static str,
    name: &'static str,
    actions: &'static [&'static str],
}

impl Audit {
    /// As the configuration says, of a server that speaks `protocol`.
    ///
    /// Errors: the file can't be written.
    pub(super) fn new(config: &AuditConfig, protocol: Protocol) -> Result<Self> {
        let lines = match &config.sink {
            AuditSink::Stdout => Some(Lines::new("audit log", std::io::stdout())),
            AuditSink::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                let file = file.map_err(|source| {
                    let path = path.display();
                    let text =
                        format!("feature_server.audit_logging: can't append to the file {path}");
                    Error::new(ErrorKind::Io, text).with_source(source)
                })?;
                Some(Lines::new("audit log", file))
            }
            AuditSink::Logger => None,
        };
        Ok(Audit { lines, logs_reads: config.logs_reads, protocol })
    }

    /// What is gathered; `None`: a logger has it already.
    pub(super) fn lines(&self) -> Option<&Lines> {
        self.lines.as_ref()
    }

    /// Begins to watch over a request; `None`: nobody wants to know of such ones.
    pub(super) fn watch<'a>(
        &'a self,
        head: &'a Parts,
        client: SocketAddr,
        begun: Instant,
    ) -> Option<Audited<'a>> {
        let path = head.uri.path();
        let is_plain = match self.protocol {
            Protocol::Http => {
                matches!(path, "/health" | "/docs" | "/openapi.json")
                    || path.starts_with("/static")
                    || path.starts_with("/mcp")
            }
            // Health and reflection.
            Protocol::Grpc => path.starts_with("/grpc."),
        };
        // Made only if it is to be told of, which is done when it is dropped.
        (!is_plain).then(|| Audited {
            audit: self,
            head,
            client,
            begun,
            place: None,
            principal: OnceLock::new(),
            answered: None,
        })
    }
}

impl Audited<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
    }

    fn tell(&self) {
        let path = self.head.uri.path();
        let outcome = match self.answered {
            None => "error",
            Some(Answered::Http(..400) | Answered::Grpc(Code::Ok)) => "success",
            Some(_) => "failure",
        };
        let known = RESOURCES.iter().find(|(known, ..)| *known == path);
        let (kind, actions) = known.map_or(("", &[][..]), |(_, kind, actions)| (*kind, *actions));
        let is_read = !actions.is_empty() && actions.iter().all(|one| one.starts_with("READ_"));
        if is_read && outcome == "success" && !self.audit.logs_reads {
            return;
        }
        let user = match self.principal.get() {
            Some(Principal::User(user)) => Some(user),
            _ => None,
        };
        let forwarded = self.header("x-forwarded-for").and_then(|all| all.split(',').next());
        let client = self.client.ip().to_string();
        let micros = self.begun.elapsed().as_micros() as f64;
        let (event_type, transport, detail) = self.ending(path);
        let event = Event {
            event_type,
            timestamp: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            request_id: self.header("x-request-id").map_or_else(uuid, str::to_owned),
            trace_id: self.place.as_ref().map(|(trace, _)| trace.as_str()),
            span_id: self.place.as_ref().map(|(_, span)| span.as_str()),
            principal: Who {
                username: user.map_or("", |user| &user.name),
                roles: user.map_or(&[], |user| &user.roles),
                auth_type: self.header("x-feast-auth-type").unwrap_or_default(),
            },
            source: Source { ip: forwarded.map_or(&*client, str::trim), transport },
            action: Doing { mcp_tool: "", path },
            resource: Resource { r#type: kind, name: "", actions },
            outcome,
            duration_ms: (micros / 10.0).round() / 100.0,
            detail,
        };
        let Ok(text) = serde_json::to_string(&event) else { return };
        match &self.audit.lines {
            Some(lines) => lines.add(|all| {
                all.push_str(&text);
                all.push('\n');
            }),
            None => log::info!(target: LOGGER, "{text}"),
        }
    }

    /// The event's type, by what it came, and how it ended.
    fn ending(&self, path: &str) -> (&'static str, &'static str, String) {
        let method = &self.head.method;
        let ended = self.answered.unwrap_or(match self.audit.protocol {
            Protocol::Http => Answered::Http(CLIENT_GONE),
            Protocol::Grpc => Answered::Grpc(Code::Cancelled),
        });
        match ended {
            Answered::Http(status) => {
                ("http.request", "http", format!("{method} {path} -> {status}"))
            }
            Answered::Grpc(code) => ("grpc.request", "grpc", format!("{path} -> {}", code.name())),
        }
    }
}

impl Drop for Audited<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}

/// A random UUID (version 4). The standard library's hashers have random keys.
fn uuid() -> String {
    let half = || RandomState::new().build_hasher().finish();
    let bits = u128::from(half()) << 64 | u128::from(half());
    let bits = bits & !(0xf << 76 | 0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let text = format!("{bits:032x}");
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let (one, other) = (uuid(), uuid());
        assert_ne!(one, other);
        for text in [one, other] {
            let lengths: Vec<usize> = text.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{text}");
            assert_eq!(&text[14..15], "4", "{text}");
            assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        }
    }
}
