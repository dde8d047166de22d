//! Method and path -> what is asked for, and the answers to what there is not: 404, 405, the
//! redirect of a trailing slash, and 501 for what Feast's server has and this one has not.
//!
//! Answers as FastAPI gives them in Feast's server (`feast/feature_server.py::get_app`).

use std::borrow::Cow;

use hyper::Method;

use super::percent;
use super::reply::Reply;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Features of entities.
    GetOnlineFeatures,
    /// Rows for all views of a push source.
    Push,
    /// Rows for one view.
    WriteToOnlineStore,
    /// A materialization of a window.
    Materialize,
    /// A materialization of what is new.
    MaterializeIncremental,
    /// Whether the server is alive.
    Health,
    /// Whether it should be sent requests.
    Ready,
    /// Prometheus metrics.
    Metrics,
    /// The description of the API.
    OpenApi,
    /// The same for people.
    Docs,
    /// What Feast's server has and this one has not; what to do instead.
    Unsupported(&'static str),
}

const GET: &str = "GET";
const POST: &str = "POST";

/// Every path with its method and what it is.
pub(super) const ROUTES: &[(&str, &str, Route)] = &[
    ("/get-online-features", POST, Route::GetOnlineFeatures),
    ("/push", POST, Route::Push),
    ("/write-to-online-store", POST, Route::WriteToOnlineStore),
    ("/materialize", POST, Route::Materialize),
    ("/materialize-incremental", POST, Route::MaterializeIncremental),
    ("/health", GET, Route::Health),
    ("/ready", GET, Route::Ready),
    ("/metrics", GET, Route::Metrics),
    ("/openapi.json", GET, Route::OpenApi),
    ("/docs", GET, Route::Docs),
    ("/search", POST, Route::Unsupported(NO_DOCUMENTS)),
    ("/retrieve-online-documents", POST, Route::Unsupported(NO_DOCUMENTS)),
    ("/v1/vector_stores", GET, Route::Unsupported(NO_DOCUMENTS)),
    ("/chat", GET, Route::Unsupported(NO_CHAT)),
    ("/chat", POST, Route::Unsupported(NO_CHAT)),
    ("/ws/chat", GET, Route::Unsupported(NO_CHAT)),
    ("/mcp", POST, Route::Unsupported(NO_MCP)),
];

const NO_DOCUMENTS: &str = "feastrs does not search documents or vectors: run `feast serve` \
     beside it for that, or ask the vector store itself";
const NO_CHAT: &str = "feastrs has no chat: `feast serve` has the page and its dummy answers";
const NO_MCP: &str = "feastrs does not speak MCP: run `feast serve` with \
     feature_server.type: mcp beside it";

/// What `method` and `path` (percent-encoded, as it came) ask for, or the answer that there is
/// no such thing. `location` gives the URL of another path of this server.
pub(super) fn find(
    method: &Method,
    path: &str,
    location: impl Fn(&str) -> String,
) -> Result<Route, Box<Reply>> {
    let path = decoded(path);
    if let Some(route) = look_up(method, &path) {
        return route;
    }
    match path.strip_suffix('/').filter(|other| look_up(method, other).is_some()) {
        Some(other) => Err(Box::new(Reply::empty(307).with_header("location", location(other)))),
        None => Err(Box::new(Reply::detail(404, "Not Found"))),
    }
}

/// Whether `path` is one of the server's own, whatever the method.
pub(super) fn is_known(path: &str) -> bool {
    ROUTES.iter().any(|(known, ..)| *known == path)
}

/// `None`: there is no such path.
fn look_up(method: &Method, path: &str) -> Option<Result<Route, Box<Reply>>> {
    let mut allowed = None;
    for (known, its_method, route) in ROUTES {
        if *known == path {
            if *its_method == method.as_str() {
                return Some(Ok(*route));
            }
            allowed = allowed.or(Some(*its_method));
        }
    }
    if let Some((its_method, route)) = parametric(path) {
        if its_method == method.as_str() {
            return Some(Ok(route));
        }
        allowed = Some(its_method);
    }
    let wrong = Reply::detail(405, "Method Not Allowed").with_header("allow", allowed?);
    Some(Err(Box::new(wrong)))
}

/// `/v1/vector_stores/{id}`, `/v1/vector_stores/{id}/search` and all below `/mcp/`.
fn parametric(path: &str) -> Option<(&'static str, Route)> {
    if path.strip_prefix("/mcp/").is_some_and(|rest| !rest.is_empty()) {
        return Some((POST, Route::Unsupported(NO_MCP)));
    }
    let rest = path.strip_prefix("/v1/vector_stores/")?;
    let (id, action) = rest.split_once('/').map_or((rest, None), |(id, rest)| (id, Some(rest)));
    match action {
        _ if id.is_empty() => None,
        None => Some((GET, Route::Unsupported(NO_DOCUMENTS))),
        Some("search") => Some((POST, Route::Unsupported(NO_DOCUMENTS))),
        Some(_) => None,
    }
}

/// `path` without percent-encoding; as it is where that gives no UTF-8.
fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    String::from_utf8(percent::decoded(path)).map_or(Cow::Borrowed(path), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, path: &str) -> Result<Route, Box<Reply>> {
        find(&method, path, |path| format!("http://h{path}?q"))
    }

    fn status(method: Method, path: &str) -> u16 {
        asked(method, path).map_or_else(|reply| reply.status, |_| 200)
    }

    #[test]
    fn paths_and_methods_are_told_apart() {
        assert_eq!(asked(Method::POST, "/push").unwrap(), Route::Push);
        assert_eq!(asked(Method::GET, "/he%61lth").unwrap(), Route::Health);
        for method in [Method::HEAD, Method::OPTIONS, Method::POST] {
            let wrong = asked(method, "/health").unwrap_err();
            assert_eq!(wrong.status, 405);
            assert_eq!(wrong.headers, [("allow", "GET".to_owned())]);
        }
        for path in ["", "/", "//health", "/static", "/nope", "/v1/vector_stores/x/y", "/%ff"] {
            assert_eq!(status(Method::GET, path), 404, "{path}");
        }
    }

    #[test]
    fn a_trailing_slash_is_redirected() {
        let elsewhere = asked(Method::POST, "/push/").unwrap_err();
        assert_eq!((elsewhere.status, elsewhere.content_type), (307, ""));
        assert_eq!(elsewhere.headers, [("location", "http://h/push?q".to_owned())]);
        assert_eq!(status(Method::GET, "/health//"), 404);
    }

    #[test]
    fn what_is_not_offered_says_so() {
        for (method, path) in [
            (Method::POST, "/search"),
            (Method::GET, "/chat"),
            (Method::POST, "/chat"),
            (Method::GET, "/v1/vector_stores/7"),
            (Method::POST, "/v1/vector_stores/7/search"),
            (Method::POST, "/mcp/messages"),
        ] {
            let route = asked(method, path).unwrap();
            assert!(matches!(route, Route::Unsupported(instead) if instead.contains("feast")));
        }
        assert_eq!(status(Method::GET, "/search"), 405);
    }
}
