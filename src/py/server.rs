//! The feature server as Python starts and stops it. It runs on the runtime's threads, which
//! run no Python; who waits for its end does so without the GIL, and looks at signals meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;

use crate::call::{Interrupt, WAIT_SLICE};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime;
use crate::server::{self, Limits, Options, TlsFiles};

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

/// A server that runs until it is stopped.
#[pyclass(frozen, module = "feastrs._native")]
pub struct Server(server::Server);

#[pymethods]
impl Server {
    /// Starts to serve the features of `store`; `python` is a `feastrs.hosting.Host`.
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "what Python passes, one by one")]
    fn start(
        py: Python<'_>,
        store: &Store,
        python: Py<PyAny>,
        host: String,
        port: u16,
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
            port,
            tls,
            access_log,
            registry_ttl: (!registry_ttl.is_zero()).then_some(registry_ttl),
            metrics_port: metrics_port.or(store.metrics_port()),
            limits: limits.into_core(keep_alive)?,
        };

        let started = py.detach(|| {
            runtime::set_workers(workers);
            server::Server::start(store.app(python, &options.limits)?, options)
        });
        logging::hand_over(py);

        Ok(Server(started?))
    }

    /// Where it listens: host and port.
    #[getter]
    fn address(&self) -> (String, u16) {
        let address = self.0.address();
        (address.ip().to_string(), address.port())
    }

    /// The port on which metrics are served beside; `None`: there is none.
    #[getter]
    fn metrics_port(&self) -> Option<u16> {
        self.0.metrics_address().map(|address| address.port())
    }

    /// Begins to stop: what is in flight ends, connections are closed.
    fn stop(&self) {
        self.0.stop();
    }

    /// The same, taking nothing new from now on.
    fn stop_soon(&self) {
        self.0.stop_soon();
    }

    /// Gives up what is in flight.
    fn stop_now(&self) {
        self.0.stop_now();
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
    fn wait_interruptibly(&self, timeout: Option<Duration>) -> Result<bool> {
        let mut left = timeout.unwrap_or(Duration::MAX);
        loop {
            let slice = left.min(WAIT_SLICE);
            if self.0.wait(slice)? {
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

fn seconds(name: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|source| {
        let text = format!("{name} is {value}, which is no number of seconds");
        Error::new(ErrorKind::InvalidArgument, text).with_source(source)
    })
}
