//! Metrics on a port of their own, as `feast serve --metrics` has them on 8000: whatever the
//! path, over HTTP/1.0, from whoever can reach it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::text::CONTENT_TYPE;
use crate::error::{Error, ErrorKind, Result};
use crate::process_local::process_id;
use crate::runtime;

/// Feast's port for metrics.
pub const DEFAULT_PORT: u16 = 8000;

/// Longer heads of requests are not read.
const MAX_HEAD: usize = 8 * 1024;
/// Whoever takes longer to ask, or to take the answer, is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Scrapers at one time; more are refused.
const SCRAPERS: usize = 16;

/// What gives the text: it may look around before.
pub type Scrape = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves metrics until it is dropped.
#[derive(Debug)]
pub struct Exporter {
    // A forked child has a copy, and its parent's threads are not there.
    process: u32,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Listens on `port` of all interfaces, IPv6 and IPv4, and answers with what `scrape` gives.
    ///
    /// Errors: the port is in use.
    pub fn start(port: u16, scrape: Scrape) -> Result<Self> {
        let refused = |source: io::Error| {
            let message = format!("can't serve metrics on port {port}");
            Error::new(ErrorKind::Io, message).with_source(source)
        };
        let handle = runtime::handle()?;
        let socket = bind(port).map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        // Tokio wants to be there when it takes a socket over.
        let _entered = handle.enter();
        let listener = TcpListener::from_std(socket).map_err(refused)?;
        Ok(Exporter {
            process: process_id(),
            address,
            task: handle.spawn(accept(listener, scrape)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if self.process == process_id() {
            self.task.abort();
        }
    }
}

fn bind(port: u16) -> io::Result<std::net::TcpListener> {
    match listen(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        // No IPv6 on this machine.
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            listen(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())
        }
        bound => bound,
    }
}

fn listen(domain: Domain, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(SCRAPERS as i32)?;
    Ok(socket.into())
}

async fn accept(listener: TcpListener, scrape: Scrape) {
    let turns = Arc::new(Semaphore::new(SCRAPERS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, mostly: not a reason to spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(turn) = turns.clone().try_acquire_owned() else { continue };
        let scrape = scrape.clone();
        tokio::spawn(async move {
            let _turn = turn;
            // A scraper that went away, or was too slow, comes again.
            drop(tokio::time::timeout(PATIENCE, answer(stream, &scrape)).await);
        });
    }
}

async fn answer(mut stream: TcpStream, scrape: &Scrape) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !ends(&head) {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = scrape();
    let length = text.len();
    let start = format!(
        "HTTP/1.0 200 OK\r\nserver: feastrs\r\ncontent-type: {CONTENT_TYPE}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(start.as_bytes()).await?;
    if !head.starts_with(b"HEAD ") {
        stream.write_all(text.as_bytes()).await?;
    }
    stream.shutdown().await
}

fn ends(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn ask(exporter: &Exporter, request: &str) -> String {
        let to = (Ipv4Addr::LOCALHOST, exporter.address().port());
        let mut stream = std::net::TcpStream::connect(to).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn every_path_gives_the_metrics() {
        let exporter = Exporter::start(0, Arc::new(|| "a 1.0\n".to_owned())).unwrap();

        for path in ["/", "/metrics", "/any?x=1"] {
            let answer = ask(&exporter, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
            assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
            assert!(answer.ends_with("\r\n\r\na 1.0\n"), "{answer}");
        }
        let taken = Exporter::start(exporter.address().port(), Arc::new(String::new));
        assert_eq!(taken.err().map(|error| error.kind()), Some(ErrorKind::Io));
    }
}
