//! One call from its head to its answer: told apart, admitted, its message read, handled within
//! its time. The only file that turns HTTP/2 into what handlers take and give.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Version};
use tokio::time::timeout_at;

use super::body::{CallBody, Content};
use super::frame::{ACCEPTED, Encoding, PREFIX, frame, lone};
use super::methods::{self, Method};
use super::status::{Code, Status};
use super::{health, reads, reflection, timeout, writes};
use crate::server::auth::Principal;
use crate::server::body;
use crate::server::budget::Share;
use crate::server::connection::Busy;
use crate::server::metrics::Metrics;
use crate::server::observed::{Answered, Asker, Observed};
use crate::server::shared::Shared;
use crate::value::wire::writer::put_sized;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Bytes of a message to one of the services that are there for tools.
const SMALL: usize = 64 * 1024;

/// The answer to `request` of `client`, during which the connection is `busy`.
pub(in crate::server) async fn answer(
    server: &Arc<Shared>,
    client: SocketAddr,
    request: hyper::Request<Incoming>,
    busy: Busy,
) -> Response<CallBody> {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    if !is_grpc(&head) {
        return elsewhere(busy);
    }
    let mut observed = Observed::begin(server, &head, client, begun, methods::is_known);
    let calling = |asker| call(server, &head, body, begun, asker);
    let (content, status) = match observed.during(calling).await {
        Ok(content) => (content, Status::ok()),
        Err(status) => (Content::Nothing, status),
    };
    // Of streams it is told that, and how, they begin.
    observed.answered(Answered::Grpc(status.code), content.len());
    let mut response = Response::new(CallBody::new(content, busy));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    if status.code != Code::Ok {
        status.put(headers);
    }
    if status.code == Code::Unimplemented {
        headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    }
    response
}

/// Whether it is a call, of messages in protobuf.
fn is_grpc(head: &Parts) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = content_type
        .strip_prefix(b"application/grpc")
        .map(|rest| rest.strip_prefix(b"+proto").unwrap_or(rest));
    head.version == Version::HTTP_2
        && head.method == hyper::Method::POST
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b";"))
}

/// To what is no call.
#[cold]
fn elsewhere(busy: Busy) -> Response<CallBody> {
    let mut response = Response::new(CallBody::new(Content::Nothing, busy));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// How it is answered. `asker` is told who calls.
async fn call(
    server: &Arc<Shared>,
    head: &Parts,
    body: Incoming,
    begun: Instant,
    asker: Asker<'_>,
) -> Result<Content, Status> {
    let path = head.uri.path();
    let method = methods::find(path).ok_or_else(|| {
        Status::new(Code::Unimplemented, format!("this server has no method '{path}'"))
    })?;
    let encoding = Encoding::of(head.headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes))?;
    if method == Method::Reflection {
        return reflection::answers(server, body, encoding);
    }
    let deadline = deadline(server, head, begun)?;
    let admitted = match method.is_work() {
        true => Some(server.requests.take(1).ok_or_else(overloaded)?),
        false => None,
    };
    let answering = answer_admitted(server, method, head, body, encoding, deadline, asker);
    // A panic of one call is none of the others' business.
    match timeout_at(deadline.into(), AssertUnwindSafe(answering).catch_unwind()).await {
        Ok(Ok(answer)) => answer.map(|answer| answer.into_content(admitted)),
        Ok(Err(_)) => {
            log::error!("the handler of {method:?} panicked: a bug in feastrs, please report it");
            let text = "feastrs has a bug: the log of the server says where";
            Err(Status::new(Code::Internal, text))
        }
        Err(_) => Err(Status::new(Code::DeadlineExceeded, "there was no answer in time")),
    }
}

/// What handlers give.
enum Answer {
    Message(Vec<u8>),
    Messages(super::body::Messages),
}

impl Answer {
    fn into_content(self, admitted: Option<Share>) -> Content {
        match self {
            Answer::Message(framed) => Content::message(framed, admitted),
            Answer::Messages(messages) => Content::Stream(messages),
        }
    }
}

async fn answer_admitted(
    server: &Arc<Shared>,
    method: Method,
    head: &Parts,
    body: Incoming,
    encoding: Encoding,
    deadline: Instant,
    asker: Asker<'_>,
) -> Result<Answer, Status> {
    let principal = match method.is_work() {
        true => {
            let authorization = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
            let admitted = server.app.gate().admit(authorization).await;
            admitted.map_err(|error| Status::of(&error))?
        }
        false => Principal::Anyone,
    };
    asker.is(&principal);
    let limit = if method.is_work() { server.options.limits.body_bytes } else { SMALL };
    let read = body::read(body, limit.saturating_add(PREFIX), &server.body_bytes).await;
    let (body, mut share) = read.map_err(|reply| Status::of_reply(&reply))?;
    let paid = body.len();
    let message = lone(body, encoding, limit)?;
    if !share.grow(message.len().saturating_sub(paid)) {
        return Err(overloaded());
    }
    handle(server, method, &principal, message, deadline).await
}

async fn handle(
    server: &Arc<Shared>,
    method: Method,
    principal: &Principal,
    message: Bytes,
    deadline: Instant,
) -> Result<Answer, Status> {
    let app = &server.app;
    Ok(Answer::Message(match method {
        Method::GetOnlineFeatures => {
            reads::get_online_features(app.serving(), principal, &message, deadline).await?
        }
        Method::Push => frame(writes::push(app, principal, &message, deadline).await?),
        Method::WriteToOnlineStore => {
            frame(writes::write_to_online_store(app, principal, &message, deadline).await?)
        }
        Method::ServingInfo => serving_info(),
        Method::HealthCheck => frame(health::check(server, &message).await?),
        Method::HealthWatch => {
            return Ok(Answer::Messages(health::watch(server, &message).await?));
        }
        Method::Reflection => {
            return Err(Status::new(Code::Internal, "reflection is answered elsewhere"));
        }
    }))
}

/// `GetFeastServingInfoResponse`.
fn serving_info() -> Vec<u8> {
    let mut message = Vec::new();
    put_sized(&mut message, 1, env!("CARGO_PKG_VERSION").as_bytes());
    frame(&message)
}

/// When the answer must be there: as soon as the client wants it, or as the server is told.
fn deadline(server: &Shared, head: &Parts, begun: Instant) -> Result<Instant, Status> {
    let limit = server.options.limits.request_timeout;
    let asked = match head.headers.get(GRPC_TIMEOUT) {
        None => limit,
        Some(header) => timeout::parse(header.as_bytes()).ok_or_else(|| {
            let text = "grpc-timeout is no timeout: at most eight digits and one of HMSmun";
            Status::new(Code::Internal, text)
        })?,
    };
    Ok(begun + asked.min(limit))
}

#[cold]
fn overloaded() -> Status {
    Metrics::of_process().shed();
    let text = "too many calls are in flight on this server; try again";
    Status::new(Code::ResourceExhausted, text)
}
