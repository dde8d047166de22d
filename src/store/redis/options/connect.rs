//! The settings themselves, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

use super::tls::TlsOptions;
use crate::config::Secret;

/// redis-py waits for ever unless told otherwise; a caller of ours never does.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// About the time that falling asleep and being woken take.
const DEFAULT_BUSY_POLL: Duration = Duration::from_micros(50);
const DEFAULT_MAX_CONNECTIONS: usize = 64;
/// Below the idle timeouts of the usual load balancers and firewalls (a minute and more).
const DEFAULT_HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// How to reach a Redis server, a cluster or sentinels, and as whom.
#[derive(Clone)]
pub(in super::super) struct Options {
    /// The server; or the nodes of a cluster to begin with; or the sentinels. Never empty.
    pub(in super::super) nodes: Vec<Address>,
    pub(in super::super) database: u32,
    pub(in super::super) username: Option<String>,
    pub(in super::super) password: Option<Secret>,
    /// `None`: no TLS.
    pub(in super::super) tls: Option<TlsOptions>,
    pub(in super::super) connect_timeout: Duration,
    /// How long to wait for bytes of a reply, or for room to send.
    pub(in super::super) io_timeout: Duration,
    /// How long to wait for a connection when all are in use.
    pub(in super::super) pool_timeout: Duration,
    /// How long the reply to a small request is looked for before it is waited for. Zero: not
    /// at all.
    pub(in super::super) busy_poll: Duration,
    /// Whether the system probes connections that nobody uses.
    pub(in super::super) keepalive: bool,
    pub(in super::super) client_name: Option<String>,
    /// How many connections to one node may be open at once.
    pub(in super::super) max_connections: usize,
    /// A connection that was idle for longer is tried out before it is used. `None`: never.
    pub(in super::super) health_check_interval: Option<Duration>,
    /// Whether a read that got no answer in time is tried once more.
    pub(in super::super) retry_on_timeout: bool,
    /// Cluster: whether replicas are read from, too.
    pub(in super::super) read_from_replicas: bool,
    /// Sentinel: where the master is reached, whatever address the sentinels tell.
    pub(in super::super) force_master_ip: Option<String>,
    /// Sentinel: how the sentinels themselves are reached. `None`: no sentinels are meant.
    pub(in super::super) sentinels: Option<Box<Options>>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Options {
    /// The defaults, for these nodes.
    pub(super) fn new(nodes: Vec<Address>) -> Self {
        Options {
            nodes,
            database: 0,
            username: None,
            password: None,
            tls: None,
            connect_timeout: DEFAULT_TIMEOUT,
            io_timeout: DEFAULT_TIMEOUT,
            pool_timeout: DEFAULT_TIMEOUT,
            busy_poll: DEFAULT_BUSY_POLL,
            keepalive: true,
            client_name: None,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            health_check_interval: Some(DEFAULT_HEALTH_CHECK_INTERVAL),
            retry_on_timeout: false,
            read_from_replicas: false,
            force_master_ip: None,
            sentinels: None,
        }
    }
}

impl Address {
    /// The address as messages show it.
    pub(in super::super) fn node(&self) -> String {
        match self {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    /// The host; `None` for a Unix socket.
    pub(in super::super) fn host(&self) -> Option<&str> {
        match self {
            Address::Tcp { host, .. } => Some(host),
            Address::Unix(_) => None,
        }
    }
}
