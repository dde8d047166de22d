//! What a server is told: where to listen, and how much it may take on. Must not know where the
//! values come from: the command line, Python, or a test.

use std::path::PathBuf;
use std::time::Duration;

use super::tracing::Settings as TraceSettings;
use crate::config::AuditConfig;

/// Where a server listens, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// A name or an address; all of a name's addresses are tried until one can be bound.
    pub host: String,
    /// 0: any free port.
    pub port: u16,
    /// `None`: it is not encrypted.
    pub tls: Option<TlsFiles>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether each request is logged, on standard output.
    pub access_log: bool,
    /// How long after a refresh of the registry the next one begins; `None`: never.
    pub registry_ttl: Option<Duration>,
    /// Another port on which metrics are served, on all interfaces; `None`: only on the server's
    /// own. 0: any free port.
    pub metrics_port: Option<u16>,
    /// Where spans of requests are sent; `None`: there are none.
    pub tracing: Option<TraceSettings>,
    /// Where is written who has asked for what; `None`: nowhere.
    pub audit: Option<AuditConfig>,
    /// How much it takes on.
    pub limits: Limits,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP, with JSON: what `feast serve` speaks.
    #[default]
    Http,
    /// gRPC: what `feast listen` speaks.
    Grpc,
}

/// The files of a server's certificate, both PEM. They are read again when they change.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// Its private key, unencrypted.
    pub key: PathBuf,
}

/// How much a server takes on. What is beyond is refused with a status code of its own.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections that are open at one time; those beyond get 503 and are closed.
    pub connections: usize,
    /// Requests that are worked on at one time; those beyond get 503.
    pub requests_in_flight: usize,
    /// Bytes of the head of a request (method, path, headers); more is 431.
    pub header_bytes: usize,
    /// Bytes of one body; more is 413.
    pub body_bytes: usize,
    /// Bytes of the bodies of all requests in flight; more is 503.
    pub body_bytes_in_flight: usize,
    /// Entity rows of one request; more is 422.
    pub rows: usize,
    /// Features of one request, those of a feature service included; more is 422.
    pub features: usize,
    /// From the head of a request to its answer; longer is 408 while the body is on its way,
    /// 504 after. Materializations take what they take.
    pub request_timeout: Duration,
    /// How long a connection may be open without a whole head of a request, then it is closed.
    pub keep_alive: Duration,
    /// After the signal to stop: how long connections are still taken, with every answer saying
    /// that the connection closes after it, so that no client is cut off.
    pub drain: Duration,
    /// After that, how long requests in flight may take to end.
    pub shutdown_timeout: Duration,
}

impl Default for Options {
    /// As `feast serve` has it.
    fn default() -> Self {
        Options {
            host: "127.0.0.1".to_owned(),
            port: 6566,
            tls: None,
            protocol: Protocol::Http,
            access_log: true,
            registry_ttl: Some(Duration::from_secs(60)),
            metrics_port: None,
            tracing: None,
            audit: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            requests_in_flight: 1_024,
            header_bytes: 64 * 1024,
            body_bytes: 32 * 1024 * 1024,
            body_bytes_in_flight: 256 * 1024 * 1024,
            rows: 100_000,
            features: 10_000,
            request_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(30),
            drain: Duration::from_millis(500),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}
