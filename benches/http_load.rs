//! A load generator for HTTP servers, open loop: requests are due at fixed times, whatever the
//! answers take, and each one's latency is counted from the time when it was due.
//!
//! `http_load URL CONNECTIONS RATE SECONDS [CA]` takes the body of a POST from standard input
//! and prints, as JSON, what came of it. `RATE` 0: each connection asks again as soon as it is
//! answered. An `https` URL needs a file of CAs. Does nothing without arguments, so that
//! cargo may run it among the benchmarks.

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, connections, rate, seconds, ca @ ..] = arguments.as_slice() else { return Ok(()) };
    let mut body = Vec::new();
    io::stdin().read_to_end(&mut body)?;
    let target = Target::new(url, ca.first())?;
    let mut request = format!(
        "POST /{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        target.path,
        body.len()
    )
    .into_bytes();
    request.extend(body);
    let open = (0..connections.parse()?).map(|_| Connection::default()).collect();
    let mut load = Load { target, request, open, found: Found::default() };
    load.run(rate.parse()?, Duration::from_secs_f64(seconds.parse()?))?;
    writeln!(io::stdout(), "{}", load.found.report(seconds.parse()?))?;
    Ok(())
}

// -- connections ---------------------------------------------------------------------------------

struct Target {
    address: String,
    path: String,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    fn new(url: &str, ca: Option<&String>) -> Outcome<Self> {
        let (scheme, rest) = url.split_once("://").ok_or("a URL has a scheme")?;
        let (address, path) = rest.split_once('/').ok_or("a URL has a path")?;
        let mut tls = None;
        if scheme == "https" {
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_file_iter(ca.ok_or("https needs a CA")?)? {
                roots.add(root?)?;
            }
            let config = ClientConfig::builder().with_root_certificates(roots);
            tls = Some(Arc::new(config.with_no_client_auth()));
        }
        Ok(Target { address: address.to_owned(), path: path.to_owned(), tls })
    }

    fn connect(&self) -> Outcome<Stream> {
        let mut socket = TcpStream::connect(&self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let stream = match &self.tls {
            None => {
                socket.set_nonblocking(true)?;
                Stream::Plain(socket)
            }
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                let mut session = ClientConnection::new(config.clone(), name)?;
                while session.is_handshaking() {
                    session.complete_io(&mut socket)?;
                }
                socket.set_nonblocking(true)?;
                Stream::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        Ok(stream)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(into),
            Stream::Tls(stream) => stream.read(into),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes),
        }
    }

    fn fd(&self) -> RawFd {
        match self {
            Stream::Plain(socket) => socket.as_raw_fd(),
            Stream::Tls(stream) => stream.sock.as_raw_fd(),
        }
    }
}

#[derive(Default)]
struct Connection {
    stream: Option<Stream>,
    received: Vec<u8>,
    /// When the request under way was due; `None`: idle.
    due: Option<Instant>,
}

// -- load ----------------------------------------------------------------------------------------

struct Load {
    target: Target,
    request: Vec<u8>,
    open: Vec<Connection>,
    found: Found,
}

impl Load {
    fn run(&mut self, rate: f64, seconds: Duration) -> Outcome<()> {
        for connection in &mut self.open {
            connection.stream = Some(self.target.connect()?);
        }
        let started = Instant::now();
        self.found.started = Some(started);
        let end = started + seconds;
        let mut planned = 0_u64;
        let mut waiting = VecDeque::new();
        while Instant::now() < end {
            let now = Instant::now();
            let mut next = now + Duration::from_millis(10);
            if rate > 0.0 {
                let due = |planned| started + Duration::from_secs_f64(planned as f64 / rate);
                next = due(planned);
                while next <= now {
                    waiting.push_back(next);
                    planned += 1;
                    next = due(planned);
                }
            }
            self.send(rate > 0.0, &mut waiting);
            self.wait_until(next.min(end));
            self.receive();
        }
        self.found.never_sent = waiting.len();
        self.finish();
        Ok(())
    }

    fn send(&mut self, is_paced: bool, waiting: &mut VecDeque<Instant>) {
        for connection in self.open.iter_mut().filter(|one| one.due.is_none()) {
            let due = if is_paced { waiting.pop_front() } else { Some(Instant::now()) };
            let Some(due) = due else { return };
            if connection.stream.is_none() {
                connection.stream = self.target.connect().ok();
            }
            let sent = connection.stream.as_mut().map(|stream| stream.write(&self.request));
            match sent {
                Some(Ok(())) => connection.due = Some(due),
                _ => {
                    // A server may close a connection that is idle: nothing was under way.
                    connection.stream = None;
                    self.found.not_connected += 1;
                }
            }
        }
    }

    fn wait_until(&self, until: Instant) {
        let under_way = self.open.iter().filter(|one| one.due.is_some());
        let mut fds: Vec<libc::pollfd> = under_way
            .filter_map(|one| one.stream.as_ref())
            .map(|stream| libc::pollfd { fd: stream.fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        let left = until.saturating_duration_since(Instant::now());
        let timeout = libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos().into(),
        };
        let count = fds.len() as libc::nfds_t;
        #[expect(unsafe_code, reason = "the standard library waits for no several sockets")]
        // SAFETY: `fds` has `count` entries, and lives until the call is over.
        unsafe {
            libc::ppoll(fds.as_mut_ptr(), count, &raw const timeout, std::ptr::null())
        };
    }

    fn receive(&mut self) {
        for connection in self.open.iter_mut().filter(|one| one.due.is_some()) {
            let is_open = fill(connection);
            let Some(answer) = Answer::whole(&connection.received) else {
                if !is_open {
                    connection.due = None;
                    connection.received.clear();
                    connection.stream = None;
                    self.found.lost += 1;
                }
                continue;
            };
            if let Some(due) = connection.due.take() {
                let body = &connection.received[connection.received.len() - answer.length..];
                self.found.take(answer.status, body, due);
            }
            connection.received.clear();
            if answer.is_last || !is_open {
                connection.stream = None;
            }
        }
    }

    /// Waits for what is under way, not for ever.
    fn finish(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.open.iter().any(|one| one.due.is_some()) && Instant::now() < end {
            self.wait_until(Instant::now() + Duration::from_millis(10));
            self.receive();
        }
        self.found.lost += self.open.iter().filter(|one| one.due.is_some()).count();
    }
}

/// Reads what has come; whether the connection is still open.
fn fill(connection: &mut Connection) -> bool {
    let mut chunk = [0; 65536];
    let Some(stream) = connection.stream.as_mut() else { return false };
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(read) => connection.received.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
}

struct Answer {
    status: u16,
    /// Of the body.
    length: usize,
    /// The server closes the connection after it.
    is_last: bool,
}

impl Answer {
    /// Once it is all there.
    fn whole(received: &[u8]) -> Option<Self> {
        let head = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
        let length = text.split("content-length:").nth(1)?.split("\r\n").next()?.trim();
        let length: usize = length.parse().ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let is_last = text.contains("connection: close");
        (received.len() >= head + length).then_some(Answer { status, length, is_last })
    }
}

// -- what came of it -----------------------------------------------------------------------------

#[derive(Default)]
struct Found {
    started: Option<Instant>,
    statuses: BTreeMap<u16, usize>,
    /// The first good answer; all others are to be the same.
    good: Option<Vec<u8>>,
    wrong: usize,
    lost: usize,
    not_connected: usize,
    never_sent: usize,
    latencies: Vec<f64>,
    /// By the second in which the request was due.
    by_second: BTreeMap<u64, Vec<f64>>,
}

impl Found {
    fn take(&mut self, status: u16, body: &[u8], due: Instant) {
        *self.statuses.entry(status).or_default() += 1;
        if status == 200 {
            self.wrong += usize::from(self.good.get_or_insert_with(|| body.to_vec()) != body);
        }
        let latency = due.elapsed().as_secs_f64();
        self.latencies.push(latency);
        let second = self.started.map_or(0, |started| due.duration_since(started).as_secs());
        self.by_second.entry(second).or_default().push(latency);
    }

    fn report(&mut self, seconds: f64) -> serde_json::Value {
        let by_second: BTreeMap<u64, f64> =
            self.by_second.iter_mut().map(|(second, all)| (*second, at(all, 0.99))).collect();
        json!({
            "rate": self.latencies.len() as f64 / seconds,
            "statuses": self.statuses,
            "wrong": self.wrong,
            "lost": self.lost,
            "not_connected": self.not_connected,
            "never_sent": self.never_sent,
            "p50": at(&mut self.latencies, 0.5),
            "p99": at(&mut self.latencies, 0.99),
            "max": at(&mut self.latencies, 1.0),
            "p99_by_second": by_second,
        })
    }
}

fn at(latencies: &mut [f64], share: f64) -> f64 {
    latencies.sort_by(f64::total_cmp);
    let index = (latencies.len() as f64 * share) as usize;
    latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
