//! How a call ended: gRPC's codes, from errors of the core and from the replies of handlers that
//! HTTP shares. Must not know bodies.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value as Json;

use crate::error::{Error, ErrorKind};
use crate::server::failure;
use crate::server::host::Raised;
use crate::server::reply::Reply;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// By which a server asks clients that try again by themselves to wait for so many milliseconds.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Clients limit what they take for metadata; what is beyond is cut off.
const MAX_MESSAGE: usize = 2048;

/// gRPC's codes, as far as this server gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    /// Empty where all went well.
    pub message: String,
}

impl Code {
    /// The name that gRPC gives it.
    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::FeatureViewNotFound
            | ErrorKind::FeatureViewVersionNotFound
            | ErrorKind::FeatureNotFound
            | ErrorKind::FeatureServiceNotFound
            | ErrorKind::EntityNotFound
            | ErrorKind::DataSourceNotFound
            | ErrorKind::ProjectNotFound
            | ErrorKind::ObjectNotFound => Code::NotFound,
            ErrorKind::RequestDataMissing
            | ErrorKind::FeatureNameCollision
            | ErrorKind::PushSourceNotFound
            | ErrorKind::InvalidArgument
            | ErrorKind::TypeMismatch
            | ErrorKind::ColumnMissing
            | ErrorKind::NullKey
            | ErrorKind::JoinKeyMissing => Code::InvalidArgument,
            ErrorKind::PrecomputedMissing => Code::FailedPrecondition,
            ErrorKind::Unauthenticated => Code::Unauthenticated,
            ErrorKind::PermissionDenied => Code::PermissionDenied,
            ErrorKind::NeedsFeast | ErrorKind::Unsupported => Code::Unimplemented,
            ErrorKind::StoreUnavailable
            | ErrorKind::RegistryUnavailable
            | ErrorKind::SourceUnavailable
            | ErrorKind::ProviderUnavailable
            | ErrorKind::Interrupted => Code::Unavailable,
            ErrorKind::StoreTimeout => Code::DeadlineExceeded,
            _ => Code::Internal,
        }
    }

    /// The code of an answer that HTTP would give with that status.
    fn of_http(status: u16) -> Self {
        match status {
            ..400 => Code::Ok,
            400 | 409 | 415 | 422 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            408 | 504 => Code::DeadlineExceeded,
            413 => Code::ResourceExhausted,
            501 => Code::Unimplemented,
            503 => Code::Unavailable,
            _ => Code::Internal,
        }
    }
}

impl Status {
    /// All went well.
    pub fn ok() -> Self {
        Status::new(Code::Ok, "")
    }

    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Status { code, message: message.into() }
    }

    /// Of a call that failed with `error`.
    #[cold]
    pub fn of(error: &Error) -> Self {
        match Raised::of(error) {
            Some(raised) => Status::new(Code::of_http(raised.status), &raised.message),
            None => Status::new(Code::of_kind(error.kind()), failure::text(error)),
        }
    }

    /// Of a call to which HTTP would answer `reply`.
    pub fn of_reply(reply: &Reply) -> Self {
        match Code::of_http(reply.status) {
            Code::Ok => Status::ok(),
            code => Status::new(code, message_of(&reply.body)),
        }
    }

    /// Writes it to the trailers of a call, or to the head of one that has nothing else.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code as u16));
        if !self.message.is_empty()
            && let Ok(message) = HeaderValue::try_from(encoded(&self.message))
        {
            headers.insert(GRPC_MESSAGE, message);
        }
        if self.code == Code::ResourceExhausted || self.code == Code::Unavailable {
            headers.insert(PUSHBACK, HeaderValue::from_static("1000"));
        }
    }
}

/// What the JSON of an error says: a text, in which an error of Feast's may be told as JSON, or
/// `{"detail": text}`.
fn message_of(body: &[u8]) -> String {
    let member = |json: &Json, name: &str| Some(json.get(name)?.as_str()?.to_owned());
    match serde_json::from_slice::<Json>(body) {
        Ok(Json::String(text)) => {
            let told = serde_json::from_str::<Json>(&text).ok();
            told.and_then(|told| member(&told, "message")).unwrap_or(text)
        }
        Ok(json) => member(&json, "detail").unwrap_or_else(|| json.to_string()),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// Percent-encoded, as a header takes it.
fn encoded(message: &str) -> String {
    let end = message.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_MESSAGE);
    let mut out = String::with_capacity(message.len());
    for &byte in &message.as_bytes()[..end.unwrap_or(message.len())] {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_headers() {
        let mut headers = HeaderMap::new();
        Status::new(Code::NotFound, "no 100% ü\n").put(&mut headers);

        assert_eq!(headers["grpc-status"], "5");
        assert_eq!(headers["grpc-message"], "no 100%25 %C3%BC%0A");

        let long = "ü".repeat(MAX_MESSAGE);
        Status::new(Code::Unavailable, &*long).put(&mut headers);
        assert_eq!(headers["grpc-message"].len(), 3 * MAX_MESSAGE);
        assert_eq!(headers["grpc-retry-pushback-ms"], "1000");
    }

    #[test]
    fn replies_of_the_http_server_are_told_again() {
        let status = |reply: Reply| {
            let status = Status::of_reply(&reply);
            (status.code, status.message)
        };
        assert_eq!(status(Reply::empty(200)), (Code::Ok, String::new()));
        assert_eq!(
            status(Reply::message(422, "no \"x\"")),
            (Code::InvalidArgument, "no \"x\"".to_owned())
        );
        assert_eq!(status(Reply::detail(401, "who?")), (Code::Unauthenticated, "who?".to_owned()));
        let told = failure::of_class(404, "FeatureViewNotFoundException", "no view");
        assert_eq!(status(told), (Code::NotFound, "no view".to_owned()));
    }

    #[test]
    fn every_kind_is_an_error() {
        for kind in ErrorKind::ALL {
            let code = Code::of_kind(*kind);
            assert!(code != Code::Ok);
            let http = failure::reply(&Error::new(*kind, "x")).status;
            // A mistake of the client's is one in both protocols.
            assert_eq!(
                http < 500,
                !matches!(
                    code,
                    Code::Internal
                        | Code::Unavailable
                        | Code::DeadlineExceeded
                        | Code::Unimplemented
                        | Code::FailedPrecondition
                ),
                "{kind:?}"
            );
        }
    }
}
