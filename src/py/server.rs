//! The feature server as Python starts and stops it. It runs on the runtime's threads, which
//! run no Python; who waits for its end does so without the GIL, and looks at signals meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::call::{Interrupt, WAIT_SLICE};
use crate::config::AuditConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime;
use crate::server::metrics::DEFAULT_PORT;
use crate::server::{self, App, Limits, Options, Protocol, TlsFiles, TraceSettings};

use super::host::PythonHost;
use super::logging;
use super::signals::Signals;
use super::store::Store;

/// The attributes of `feastrs.server.Limits`.
#[derive(FromPyObject)]
struct PyLimits {
    connections: usize,
    requests_in_flight: usize,
    header_bytes: usize,
    body_bytes: usize,
    body_bytes_in_flight: usize,
    rows: usize,
    features: usize,
    request_timeout: f64,
    drain: f64,
    shutdown_timeout: f64,
}

/// A server that runs until it is stopped: of HTTP, of gRPC, or of both, on a port each.
#[pyclass(frozen, module = "feastrs._native")]
pub struct Server {
    http: Option<server::Server>,
    grpc: Option<server::Server>,
}

/// How long an HTTP/2 connection of gRPC may idle: clients keep them for good.
const GRPC_KEEP_ALIVE: Duration = Duration::from_secs(600);

#[pymethods]
impl Server {
    /// Starts to serve the features of `store`; `python` is a `feastrs.hosting.Host`. Without
    /// `port` there is no HTTP, without `grpc_port` no gRPC.
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "what Python passes, one by one")]
    fn start(
        py: Python<'_>,
        store: &Store,
        python: Py<PyAny>,
        host: String,
        port: Option<u16>,
        grpc_port: Option<u16>,
        workers: usize,
        keep_alive: f64,
        access_log: bool,
        registry_ttl: f64,
        certificate_and_key: Option<(PathBuf, PathBuf)>,
        limits: PyLimits,
        metrics_port: Option<u16>,
    ) -> PyResult<Self> {
        let tls = certificate_and_key.map(|(certificate, key)| TlsFiles { certificate, key });
        let registry_ttl = seconds("registry_ttl_sec", registry_ttl)?;
        let options = Options {
            host,
            port: port.or(grpc_port).unwrap_or_default(),
            tls,
            protocol: Protocol::Http,
            access_log,
            registry_ttl: (!registry_ttl.is_zero()).then_some(registry_ttl),
            metrics_port: metrics_port.or(store.metrics_port()),
            tracing: store.tracing(),
            audit: store.audit(),
            limits: limits.into_core(keep_alive)?,
        };

        let started = py.detach(|| {
            runtime::set_workers(workers);
            let app = store.app(python, &options.limits)?;
            Self::start_each(&app, options, port.is_some(), grpc_port)
        });
        logging::hand_over(py);

        Ok(started?)
    }

    /// Where it listens for HTTP: host and port; `None`: nowhere.
    #[getter]
    fn address(&self) -> Option<(String, u16)> {
        self.http.as_ref().map(address)
    }

    /// Where it listens for gRPC: host and port; `None`: nowhere.
    #[getter]
    fn grpc_address(&self) -> Option<(String, u16)> {
        self.grpc.as_ref().map(address)
    }

    /// The port on which metrics are served beside; `None`: there is none.
    #[getter]
    fn metrics_port(&self) -> Option<u16> {
        self.each().find_map(server::Server::metrics_address).map(|address| address.port())
    }

    /// Begins to stop: what is in flight ends, connections are closed.
    fn stop(&self) {
        self.each().for_each(server::Server::stop);
    }

    /// The same, taking nothing new from now on.
    fn stop_soon(&self) {
        self.each().for_each(server::Server::stop_soon);
    }

    /// Gives up what is in flight.
    fn stop_now(&self) {
        self.each().for_each(server::Server::stop_now);
    }

    /// Waits for the end, at most for `timeout` seconds; whether it has come.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;

        let over = py.detach(|| self.wait_interruptibly(timeout));
        logging::hand_over(py);

        Ok(over?)
    }
}

impl Server {
    fn start_each(
        app: &Arc<App>,
        options: Options,
        speaks_http: bool,
        grpc_port: Option<u16>,
    ) -> Result<Self> {
        let beside = Options {
            port: grpc_port.unwrap_or_default(),
            protocol: Protocol::Grpc,
            limits: Limits { keep_alive: GRPC_KEEP_ALIVE, ..options.limits.clone() },
            // Where both run, HTTP's looks after these.
            registry_ttl: options.registry_ttl.filter(|_| !speaks_http),
            metrics_port: options.metrics_port.filter(|_| !speaks_http),
            ..options.clone()
        };
        let start = |options| server::Server::start(app.clone(), options);
        Ok(Server {
            http: speaks_http.then(|| start(options)).transpose()?,
            grpc: grpc_port.map(|_| start(beside)).transpose()?,
        })
    }

    fn each(&self) -> impl Iterator<Item = &server::Server> {
        self.http.iter().chain(&self.grpc)
    }

    /// Waits for so long for the end of both; whether it has come.
    fn wait_each(&self, timeout: Duration) -> Result<bool> {
        let end = Instant::now() + timeout;
        for server in self.each() {
            if !server.wait(end.saturating_duration_since(Instant::now()))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wait_interruptibly(&self, timeout: Option<Duration>) -> Result<bool> {
        let mut left = timeout.unwrap_or(Duration::MAX);
        loop {
            let slice = left.min(WAIT_SLICE);
            if self.wait_each(slice)? {
                return Ok(true);
            }
            Signals.check()?;
            left = left.saturating_sub(slice);
            if left.is_zero() {
                return Ok(false);
            }
        }
    }
}

impl PyLimits {
    fn into_core(self, keep_alive: f64) -> Result<Limits> {
        Ok(Limits {
            connections: self.connections,
            requests_in_flight: self.requests_in_flight,
            header_bytes: self.header_bytes,
            body_bytes: self.body_bytes,
            body_bytes_in_flight: self.body_bytes_in_flight,
            rows: self.rows,
            features: self.features,
            request_timeout: seconds("request_timeout", self.request_timeout)?,
            keep_alive: seconds("keep_alive_timeout", keep_alive)?,
            drain: seconds("drain", self.drain)?,
            shutdown_timeout: seconds("shutdown_timeout", self.shutdown_timeout)?,
        })
    }
}

fn address(server: &server::Server) -> (String, u16) {
    let address = server.address();
    (address.ip().to_string(), address.port())
}

fn seconds(name: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|source| {
        let text = format!("{name} is {value}, which is no number of seconds");
        Error::new(ErrorKind::InvalidArgument, text).with_source(source)
    })
}

/// What a server needs of a repository.
impl Store {
    /// The port for metrics, where the configuration wants one.
    pub(super) fn metrics_port(&self) -> Option<u16> {
        self.config.metrics.is_enabled.then_some(DEFAULT_PORT)
    }

    /// The audit log that the configuration wants.
    pub(super) fn audit(&self) -> Option<AuditConfig> {
        self.config.audit.clone()
    }

    /// Where a server's spans are sent, as the environment says; what makes no sense there is no
    /// reason not to serve.
    pub(super) fn tracing(&self) -> Option<TraceSettings> {
        match TraceSettings::read(|name| std::env::var(name).ok()) {
            Ok(settings) => settings.map(|settings| settings.of(&self.config)),
            Err(error) => {
                log::warn!("requests are not traced: {error}");
                None
            }
        }
    }

    /// What a server of this repository answers with; `host` is a `feastrs.hosting.Host`.
    pub(super) fn app(&self, host: Py<PyAny>, limits: &Limits) -> Result<Arc<App>> {
        let registry = self.registry()?.clone();
        let online = match self.online() {
            Err(error) if error.kind() == ErrorKind::NeedsFeast => None,
            opened => Some(opened?),
        };
        let host = Arc::new(PythonHost::new(host));
        Ok(Arc::new(App::new(self.config.clone(), registry, online, host, limits)?))
    }
}
