//! Where connections come in: the listening socket, how many there may be, and how it all ends.
//! Must not know what is said over them.

use std::future::pending;
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::app::App;
use super::audit::Audit;
use super::connection;
use super::metrics::Exporter;
use super::options::{Options, Protocol};
use super::phase::{Phase, Progress};
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::process_local::process_id;
use crate::runtime;

/// Connections that wait to be taken, at most; the kernel's own limit may be lower.
const BACKLOG: i32 = 4096;
/// After a connection could not be taken, for there are too many files open.
const PAUSE: Duration = Duration::from_millis(20);
/// How often it is looked whether all connections are closed.
const LOOK: Duration = Duration::from_millis(5);
/// How long materializations may take to put the states of their views back.
const CLEAN_UP: Duration = Duration::from_secs(5);
/// How long who is turned away may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a connection is told that is one too many.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    server: feastrs\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 54\r\n\r\n\
    \"too many connections to this server; try again later\"";

/// A server that runs on the [`runtime`] until it is stopped. Dropped, it stops at once.
#[derive(Debug)]
pub struct Server {
    process: u32,
    address: SocketAddr,
    progress: Arc<Progress>,
    exporter: Option<Exporter>,
}

impl Server {
    /// Binds the address and begins to serve.
    ///
    /// Errors: [`ErrorKind::InvalidArgument`] where there is no such host, [`ErrorKind::Io`] where
    /// the address can't be bound, [`ErrorKind::InvalidConfig`] where the certificate can't be
    /// used.
    pub fn start(app: Arc<App>, options: Options) -> Result<Self> {
        let shared = Shared::new(app, options)?;
        let Options { host, port, .. } = &shared.options;
        let failed = |source| cannot_listen(host, *port, source);
        let listener = bind(host, *port)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = runtime::handle()?;
        let _entered = runtime.enter();
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let shared = Arc::new(shared);
        let progress = shared.progress.clone();
        let exporter = export(&shared);
        runtime.spawn(run(listener, shared));
        Ok(Server { process: process_id(), address, progress, exporter })
    }

    /// Where metrics are served beside; `None`: nowhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.exporter.as_ref().map(Exporter::address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to stop, gracefully: it is no longer ready, requests in flight end, connections
    /// close. Does not wait. In a forked child it does nothing: the server is the parent's.
    pub fn stop(&self) {
        self.advance(Phase::Draining);
    }

    /// The same, taking nothing new from now on.
    pub fn stop_soon(&self) {
        self.advance(Phase::Closing);
    }

    /// Gives up what is in flight.
    pub fn stop_now(&self) {
        self.advance(Phase::Aborting);
    }

    /// Waits for so long for the end; whether it has come. Not to be called on the runtime.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        if self.process != process_id() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "this server runs in the process that started it, of which this one is a fork",
            ));
        }
        self.progress.wait(Phase::Over, timeout)
    }

    fn advance(&self, phase: Phase) {
        if self.process == process_id() {
            self.progress.advance(phase);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_now();
    }
}

/// Serves metrics on their own port, if that is asked for. One that is taken is no reason not to
/// serve features.
fn export(server: &Arc<Shared>) -> Option<Exporter> {
    let port = server.options.metrics_port?;
    let server = server.clone();
    let exporter = Exporter::start(port, Arc::new(move || server.app.scrape()));
    exporter.inspect_err(|error| log::error!("{error}")).ok()
}

fn bind(host: &str, port: u16) -> Result<StdListener> {
    let addresses = (host, port).to_socket_addrs().map_err(|source| {
        Error::new(ErrorKind::InvalidArgument, format!("there is no host '{host}' to listen on"))
            .with_source(source)
    })?;
    let mut failed = None;
    for address in addresses {
        match bind_to(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = Some(error),
        }
    }
    let source = failed.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into());
    Err(cannot_listen(host, port, source))
}

fn bind_to(address: SocketAddr) -> std::io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // So that a server which is started again need not wait for its old connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cold]
fn cannot_listen(host: &str, port: u16, source: std::io::Error) -> Error {
    let text = format!("can't listen on {host}, port {port}; choose another or stop who has it");
    Error::new(ErrorKind::Io, text).with_source(source)
}

/// From start to end.
async fn run(listener: TcpListener, server: Arc<Shared>) {
    let _over = Over(server.progress.clone());
    let background = tokio::spawn(look_after(server.clone()));
    let stopping = wind_down(&server);
    tokio::select! {
        biased;
        () = stopping => {}
        () = accept_all(&listener, &server) => {}
    }
    // Those that the kernel has taken already: their clients may have sent a request.
    while let Some(Ok((stream, client))) = listener.accept().now_or_never() {
        welcome(stream, client, &server);
    }
    // A forked child has the socket too: closing this one alone would leave clients waiting.
    let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
    drop(listener);
    server.progress.advance(Phase::Closing);
    let given_up = Instant::now() + server.options.limits.shutdown_timeout;
    tokio::select! {
        () = all_closed(&server) => {}
        () = server.progress.reached(Phase::Aborting) => {}
        () = tokio::time::sleep_until(given_up) => {}
    }
    server.progress.advance(Phase::Aborting);
    // Materializations are asked for over HTTP alone, and end with it.
    let materializes = server.options.protocol == Protocol::Http;
    if materializes {
        server.app.stop();
    }
    all_closed(&server).await;
    if materializes {
        server.app.idle(CLEAN_UP).await;
    }
    server.app.flush().await;
    background.abort();
    if let Some(log) = &server.access_log {
        log.lines().flush().await;
    }
    if let Some(lines) = server.audit.as_ref().and_then(Audit::lines) {
        lines.flush().await;
    }
    if let Some(tracer) = &server.tracer {
        // A collector that does not answer must not keep the process from ending.
        let _ = tokio::time::timeout(CLEAN_UP, tracer.flush()).await;
    }
}

/// What goes on beside the requests, for ever.
async fn look_after(server: Arc<Shared>) {
    let refreshes = async {
        match server.options.registry_ttl {
            Some(ttl) => server.app.refresher().run(ttl).await,
            None => pending().await,
        }
    };
    let certificates = async {
        match &server.tls {
            Some(tls) => tls.watch().await,
            None => pending().await,
        }
    };
    let log = async {
        match &server.access_log {
            Some(log) => log.lines().run().await,
            None => pending().await,
        }
    };
    let health = async {
        match server.options.protocol {
            Protocol::Http => pending().await,
            Protocol::Grpc => server.health.run(&server).await,
        }
    };
    let audit = async {
        match server.audit.as_ref().and_then(Audit::lines) {
            Some(lines) => lines.run().await,
            None => pending().await,
        }
    };
    let spans = async {
        match &server.tracer {
            Some(tracer) => tracer.run().await,
            None => pending().await,
        }
    };
    tokio::join!(refreshes, certificates, log, audit, spans, health);
}

/// Ends the server's progress however its task ends.
struct Over(Arc<Progress>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.advance(Phase::Over);
    }
}

/// Waits until no more connections are to be taken.
async fn wind_down(server: &Shared) {
    server.progress.reached(Phase::Draining).await;
    tokio::select! {
        () = tokio::time::sleep(server.options.limits.drain) => {}
        () = all_closed(server) => {}
        () = server.progress.reached(Phase::Closing) => {}
    }
}

async fn all_closed(server: &Shared) {
    while server.connections.taken() > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

async fn accept_all(listener: &TcpListener, server: &Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => welcome(stream, client, server),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                log::warn!("a connection can't be taken: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn welcome(stream: TcpStream, client: SocketAddr, server: &Arc<Shared>) {
    let Some(share) = server.connections.take(1) else {
        turn_away(stream, server);
        return;
    };
    // Answers are written whole: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let server = server.clone();
    tokio::spawn(async move {
        match server.tls.clone() {
            None => connection::serve(stream, client, server).await,
            Some(tls) => {
                let handshake = tokio::select! {
                    stream = tls.accept(stream) => stream,
                    () = server.progress.reached(Phase::Aborting) => None,
                };
                if let Some(stream) = handshake {
                    connection::serve(stream, client, server).await;
                }
            }
        }
        drop(share);
    });
}

fn turn_away(mut stream: TcpStream, server: &Shared) {
    // Without a handshake there is no way to tell.
    let can_be_told = server.tls.is_none() && server.options.protocol == Protocol::Http;
    let Some(share) = server.farewells.take(1).filter(|_| can_be_told) else { return };
    // Nobody reads what the client sends; closed at once, the answer would be lost with it.
    tokio::spawn(tokio::time::timeout(FAREWELL, async move {
        let _share = share;
        stream.write_all(TURNED_AWAY).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    }));
}
