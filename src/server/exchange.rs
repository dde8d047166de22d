//! One request from its head to its answer: told apart, admitted, its body read, handled within
//! its time. The only file that turns HTTP into what handlers take and give.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, SERVER,
};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Version};
use tokio::time::timeout_at;

use super::auth::Principal;
use super::body;
use super::budget::Share;
use super::metrics::Metrics;
use super::observed::{Answered, Asker, Observed};
use super::payload::Payload;
use super::phase::Phase;
use super::reply::Reply;
use super::request::{Request, is_json};
use super::routes::{self, Route};
use super::shared::Shared;

const NAME: HeaderValue = HeaderValue::from_static("feastrs");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The answer to `request` of `client`.
pub(super) async fn answer(
    server: &Shared,
    client: SocketAddr,
    request: hyper::Request<Incoming>,
) -> Response<Payload> {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let mut observed = Observed::begin(server, &head, client, begun, routes::is_known);
    let answering = |asker| find_and_answer(server, &head, body, begun, asker);
    let (reply, admitted) = observed.during(answering).await;
    observed.answered(Answered::Http(reply.status), reply.body.len());
    let closes = head.version <= Version::HTTP_11 && server.progress.now() > Phase::Serving;
    response(reply, admitted, head.version, closes)
}

/// The answer, and what its request was admitted with. `asker` is told who asks.
async fn find_and_answer(
    server: &Shared,
    head: &Parts,
    body: Incoming,
    begun: Instant,
    asker: Asker<'_>,
) -> (Reply, Option<Share>) {
    match routes::find(&head.method, head.uri.path(), |path| server.url(head, path)) {
        Ok(route) => answer_route(server, route, head, body, begun, asker).await,
        Err(reply) => (*reply, None),
    }
}

/// The same once it is known what is asked for.
async fn answer_route(
    server: &Shared,
    route: Route,
    head: &Parts,
    body: Incoming,
    begun: Instant,
    asker: Asker<'_>,
) -> (Reply, Option<Share>) {
    if !route.takes_body() {
        return (handle(server, route, Request::bodiless(head.uri.query())).await, None);
    }
    let Some(admitted) = server.requests.take(1) else {
        return (overloaded(), None);
    };
    (answer_admitted(server, route, head, body, begun, asker).await, Some(admitted))
}

async fn answer_admitted(
    server: &Shared,
    route: Route,
    head: &Parts,
    body: Incoming,
    begun: Instant,
    asker: Asker<'_>,
) -> Reply {
    let limits = &server.options.limits;
    let deadline = begun + limits.request_timeout;
    let authorization = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let admitting = server.app.admit(route, authorization);
    let principal = match timeout_at(deadline.into(), admitting).await {
        Ok(Ok(principal)) => principal,
        Ok(Err(reply)) => return reply,
        Err(_) => return unanswered(server),
    };
    asker.is(&principal);
    let reading = body::read(body, limits.body_bytes, &server.body_bytes);
    let (body, _share) = match timeout_at(deadline.into(), reading).await {
        Ok(Ok(read)) => read,
        Ok(Err(reply)) => return reply,
        Err(_) => return too_slow(),
    };
    let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let request = Request {
        query: head.uri.query().unwrap_or_default().to_owned(),
        principal,
        is_json: is_json(content_type),
        body,
        deadline: (!route.takes_its_time()).then_some(deadline),
    };
    handle(server, route, request).await
}

/// What the handler answers in time; a panic of one request is none of the others' business.
async fn handle(server: &Shared, route: Route, request: Request) -> Reply {
    let deadline = request.deadline;
    let handled =
        AssertUnwindSafe(server.app.answer(route, request, server.progress.now())).catch_unwind();
    let outcome = match deadline {
        Some(deadline) => timeout_at(deadline.into(), handled).await,
        None => Ok(handled.await),
    };
    match outcome {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => {
            log::error!("a handler of {route:?} panicked: a bug in feastrs, please report it");
            Reply::message(500, "feastrs has a bug: the log of the server says where")
        }
        Err(_) => unanswered(server),
    }
}

#[cold]
fn unanswered(server: &Shared) -> Reply {
    let seconds = server.options.limits.request_timeout.as_secs_f64();
    Reply::message(504, &format!("there was no answer within {seconds} seconds"))
}

impl Shared {
    /// The URL of `path` on this server as the client knows it, with the query of `head`.
    fn url(&self, head: &Parts, path: &str) -> String {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        let authority = head.uri.authority().map(|authority| authority.as_str());
        let host = || head.headers.get(HOST)?.to_str().ok();
        let host = authority.or_else(host).unwrap_or_default();
        let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{host}{path}{query}")
    }
}

impl Route {
    /// Whether there is work to do for it, which is limited; the others are answered always.
    pub(super) fn takes_body(self) -> bool {
        use Route::{GetOnlineFeatures, Materialize, MaterializeIncremental};
        use Route::{Push, WriteToOnlineStore};
        matches!(
            self,
            GetOnlineFeatures | Push | WriteToOnlineStore | Materialize | MaterializeIncremental
        )
    }

    fn takes_its_time(self) -> bool {
        matches!(self, Route::Materialize | Route::MaterializeIncremental)
    }
}

impl Request {
    fn bodiless(query: Option<&str>) -> Self {
        let query = query.unwrap_or_default().to_owned();
        let principal = Principal::Anyone;
        Request { query, principal, is_json: false, body: Bytes::new(), deadline: None }
    }
}

#[cold]
fn overloaded() -> Reply {
    Metrics::of_process().shed();
    let text = "too many requests are in flight on this server; try again";
    Reply::message(503, text).with_header("retry-after", "1")
}

#[cold]
fn too_slow() -> Reply {
    let text = "the body of the request did not arrive in time";
    Reply::message(408, text).with_header("connection", "close")
}

fn response(
    reply: Reply,
    admitted: Option<Share>,
    version: Version,
    closes: bool,
) -> Response<Payload> {
    let mut response = Response::new(Payload::new(reply.body, admitted));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(SERVER, NAME);
    if !reply.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    }
    for (name, value) in reply.headers {
        let value = HeaderValue::try_from(value);
        // HTTP/2 has no such header: a stream ends by itself.
        let is_of_connection = name == CONNECTION.as_str() && version > Version::HTTP_11;
        if let (Ok(value), false) = (value, is_of_connection) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    if closes {
        headers.insert(CONNECTION, CLOSE);
    }
    response
}
