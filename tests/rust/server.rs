//! The transport of the feature server over raw sockets: HTTP as clients may speak it, the
//! limits with their status codes, and how a server stops.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use feastrs::config::RepoConfig;
use feastrs::registry::cache::RegistryCache;
use feastrs::server::{App, Limits, NoHost, Options, Server};
use feastrs::store;

/// A `feast.core.Registry` with a `version_id` and nothing else.
const EMPTY_REGISTRY: &[u8] = b"\x22\x011";
const PATIENCE: Duration = Duration::from_secs(10);

/// A server of an empty registry on a free port.
fn server(limits: Limits) -> Server {
    start(Options { port: 0, access_log: false, limits, ..Options::default() })
}

/// A server of an empty registry.
pub fn start(options: Options) -> Server {
    let yaml =
        "project: p\nregistry: registry.db\nonline_store: {type: sqlite, path: /nonexistent}";
    let config = RepoConfig::from_yaml_text(yaml, Path::new("/nonexistent")).unwrap();
    Server::start(app(config), options).unwrap()
}

fn app(config: RepoConfig) -> Arc<App> {
    let registry = RegistryCache::given(&config, EMPTY_REGISTRY).unwrap();
    let online = store::open(&config).unwrap();
    let limits = Limits::default();
    Arc::new(App::new(config, registry, Some(online), Arc::new(NoHost), &limits).unwrap())
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One answer: its head, and as much body as it says.
fn receive(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn ask(server: &Server, request: &str) -> (String, String) {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    receive(&mut stream)
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: h\r\n\r\n";

fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn answers_have_the_headers_of_feasts_server() {
    let server = server(Limits::default());
    let (head, body) = ask(&server, HEALTH);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nserver: feastrs\r\n"), "{head}");
    assert!(head.contains("\r\ndate: ") && !head.contains("content-type"), "{head}");
    assert_eq!(body, "");

    let (head, body) = ask(&server, "GET /nope HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert_eq!(body, r#"{"detail":"Not Found"}"#);

    let (head, _) = ask(&server, "POST /push/?x=1 HTTP/1.1\r\nhost: there:1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 307 "), "{head}");
    assert!(head.contains("\r\nlocation: http://there:1/push?x=1\r\n"), "{head}");
}

#[test]
fn a_connection_carries_many_requests_also_pipelined() {
    let server = server(Limits::default());
    let mut stream = connect(&server);
    stream.write_all(HEALTH.repeat(50).as_bytes()).unwrap();
    for _ in 0..50 {
        assert!(receive(&mut stream).0.starts_with("HTTP/1.1 200 "));
    }
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    assert!(receive(&mut stream).0.starts_with("HTTP/1.0 200 "));
    assert!(is_closed(&mut stream), "HTTP/1.0 closes");
}

#[test]
fn a_connection_outlives_an_error() {
    let server = server(Limits::default());
    let mut stream = connect(&server);
    for _ in 0..2 {
        stream.write_all(post("/search", "{}").as_bytes()).unwrap();
        assert!(receive(&mut stream).0.starts_with("HTTP/1.1 501 "));
    }
}

#[test]
fn a_body_too_large_is_refused_before_it_is_read() {
    let server = server(Limits { body_bytes: 1000, ..Limits::default() });
    let (head, body) =
        ask(&server, "POST /push HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000000000\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert!(body.starts_with('"') && body.contains("1000 bytes"), "{body}");

    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let chunked = "POST /push HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    let (head, _) = ask(&server, &format!("{chunked}{chunk}"));
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
}

#[test]
fn a_head_too_large_is_431() {
    let server = server(Limits::default());
    let (head, _) =
        ask(&server, &format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000)));
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
}

#[test]
fn what_is_not_http_is_400() {
    let server = server(Limits::default());
    for nonsense in ["nonsense\r\n\r\n", "GET /health HTTP/1.1\r\n\u{1}: x\r\n\r\n"] {
        assert!(ask(&server, nonsense).0.starts_with("HTTP/1.1 400 "));
    }
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let timeout = Duration::from_millis(100);
    let server = server(Limits { request_timeout: timeout, ..Limits::default() });
    let (head, body) =
        ask(&server, "POST /push HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n12345");
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(body.starts_with('"'), "{body}");
}

#[test]
fn a_connection_without_a_whole_head_is_closed() {
    let keep_alive = Duration::from_millis(200);
    let server = server(Limits { keep_alive, ..Limits::default() });
    for begun in ["", "PRI * HT", "GET /health HTTP/1.1\r\nhost: ", HEALTH] {
        let begin = Instant::now();
        let mut stream = connect(&server);
        stream.write_all(begun.as_bytes()).unwrap();
        if begun == HEALTH {
            receive(&mut stream);
        }
        assert!(is_closed(&mut stream), "{begun}");
        assert!(begin.elapsed() >= keep_alive, "{begun}");
    }
}

/// A connection that has sent `head` and no more, and the answer to `request` that is refused for
/// it. Where `head` itself was refused, because it came beside a `request`, it is sent again.
fn refused_beside(server: &Server, head: &str, request: &str) -> (TcpStream, (String, String)) {
    let begin = Instant::now();
    let mut first = connect(server);
    first.write_all(head.as_bytes()).unwrap();
    loop {
        let answer = ask(server, request);
        first.set_nonblocking(true).unwrap();
        let is_answered = first.peek(&mut [0]).is_ok();
        first.set_nonblocking(false).unwrap();
        if is_answered {
            first = connect(server);
            first.write_all(head.as_bytes()).unwrap();
        } else if answer.0.starts_with("HTTP/1.1 503 ") {
            return (first, answer);
        }
        assert!(begin.elapsed() < PATIENCE, "{}", answer.0);
    }
}

#[test]
fn requests_in_flight_are_counted_and_the_rest_is_503() {
    let server = server(Limits { requests_in_flight: 1, ..Limits::default() });
    let request = post("/get-online-features", "{}");
    let (head, rest) = request.split_at(request.len() - 1);
    let (mut first, refused) = refused_beside(&server, head, &request);
    assert!(refused.0.contains("\r\nretry-after: 1\r\n"), "{}", refused.0);
    assert!(refused.1.starts_with('"'), "{}", refused.1);
    assert!(ask(&server, HEALTH).0.starts_with("HTTP/1.1 200 "), "health is never refused");

    first.write_all(rest.as_bytes()).unwrap();
    assert!(!receive(&mut first).0.starts_with("HTTP/1.1 503 "));
    assert!(!ask(&server, &request).0.starts_with("HTTP/1.1 503 "));
}

#[test]
fn bodies_in_flight_share_a_bounded_memory() {
    let server = server(Limits { body_bytes_in_flight: 1000, ..Limits::default() });
    let head = "POST /push HTTP/1.1\r\nhost: h\r\ncontent-length: 900\r\n\r\n";
    let request = post("/get-online-features", &"x".repeat(200));
    let (first, _) = refused_beside(&server, head, &request);
    let begin = Instant::now();
    drop(first);
    while ask(&server, &request).0.starts_with("HTTP/1.1 503 ") {
        assert!(begin.elapsed() < PATIENCE, "a client that went away gives back what it had");
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let keep_alive = Duration::from_millis(300);
    let limits = Limits { keep_alive, ..Limits::default() };
    let server = server(limits);
    let request = "GET /openapi.json HTTP/1.1\r\nhost: h\r\n\r\n".repeat(1000);
    let mut deaf = connect(&server);
    deaf.set_write_timeout(Some(PATIENCE)).unwrap();
    deaf.write_all(request.as_bytes()).unwrap();
    let begin = Instant::now();
    while !is_closed_for_writing(&mut deaf) {
        assert!(begin.elapsed() < 3 * PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_closed_for_writing(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    matches!(stream.write(b"\r\n"), Err(error) if error.kind() != ErrorKind::WouldBlock)
}

#[test]
fn a_connection_too_many_is_told_so() {
    let server = server(Limits { connections: 1, ..Limits::default() });
    let mut first = connect(&server);
    first.write_all(HEALTH.as_bytes()).unwrap();
    receive(&mut first);
    let (head, body) = ask(&server, HEALTH);
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after"), "{head}");
    assert!(body.ends_with("later\""), "{body}");
}

#[test]
fn a_stop_ends_what_is_in_flight_and_takes_nothing_new() {
    let server = server(Limits { drain: Duration::from_millis(200), ..Limits::default() });
    let (mut idle, mut busy) = (connect(&server), connect(&server));
    let request = post("/get-online-features", "{}");
    let (head, rest) = request.split_at(request.len() - 1);
    busy.write_all(head.as_bytes()).unwrap();
    idle.write_all(HEALTH.as_bytes()).unwrap();
    receive(&mut idle);

    server.stop();
    let (head, _) = ask(&server, HEALTH);
    assert!(head.contains("\r\nconnection: close\r\n"), "taken while draining: {head}");
    assert!(is_closed(&mut idle), "idle connections are closed");
    assert!(!server.wait(Duration::ZERO).unwrap());
    assert!(TcpStream::connect(server.address()).is_err(), "nobody listens any more");
    busy.write_all(rest.as_bytes()).unwrap();
    assert!(receive(&mut busy).0.starts_with("HTTP/1.1 "));
    assert!(server.wait(PATIENCE).unwrap());
}

#[test]
fn a_stop_gives_up_what_does_not_end() {
    let limits = Limits {
        drain: Duration::ZERO,
        shutdown_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = server(limits);
    let mut stuck = connect(&server);
    stuck.write_all(b"POST /push HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n").unwrap();
    assert!(ask(&server, HEALTH).0.starts_with("HTTP/1.1 200 "));
    server.stop();
    assert!(server.wait(PATIENCE).unwrap());
    assert!(is_closed(&mut stuck));
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let server = server(Limits { drain: Duration::from_secs(60), ..Limits::default() });
    for request in [post("/push", "{}"), HEALTH.to_owned(), "GET /hea".to_owned()] {
        let mut stream = connect(&server);
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    server.stop();
    assert!(server.wait(PATIENCE).unwrap(), "no connection is left, so it need not drain");
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let server = server(Limits::default());
    let yaml = "project: p\nregistry: registry.db";
    let config = RepoConfig::from_yaml_text(yaml, Path::new("/nonexistent")).unwrap();
    let app = app(config);
    let options = Options { port: server.address().port(), ..Options::default() };
    let error = Server::start(app.clone(), options).unwrap_err();
    assert!(error.to_string().contains(&server.address().port().to_string()), "{error}");
    let options = Options { host: "no host".to_owned(), ..Options::default() };
    assert!(Server::start(app, options).unwrap_err().to_string().contains("'no host'"));
}
