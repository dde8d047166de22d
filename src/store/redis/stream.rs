//! A blocking byte stream to the server: TCP, TLS over TCP, or a Unix socket, whose reads and
//! writes return after a slice of time. Must not know RESP.

use std::hint;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{SockRef, TcpKeepalive};

use super::low_water;
use super::options::{Address, Options};
use crate::call::{Call, WAIT_SLICE};
use crate::error::{Error, ErrorKind, Result};

/// Probes begin before firewalls and load balancers forget a connection.
pub(super) const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// Where the other side has gone, an error, not a signal. Apple's systems know that of the socket.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to `address` as `options` say; `tls` is their TLS configuration.
    pub(super) fn open(
        address: &Address,
        options: &Options,
        tls: Option<&Arc<ClientConfig>>,
        call: &Call<'_>,
    ) -> Result<Self> {
        call.check()?;
        let slice = WAIT_SLICE.min(options.io_timeout);
        let cannot = |source: io::Error| cannot_connect(address, options, source);
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(cannot)?;
                stream.set_read_timeout(Some(slice)).map_err(cannot)?;
                stream.set_write_timeout(Some(slice)).map_err(cannot)?;
                Ok(Stream::Unix(stream))
            }
            Address::Tcp { host, port } => {
                let stream = connect_tcp(address, (host, *port), options, call)?;
                stream.set_nodelay(true).map_err(cannot)?;
                if options.keepalive {
                    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE).map_err(cannot)?;
                }
                stream.set_read_timeout(Some(slice)).map_err(cannot)?;
                stream.set_write_timeout(Some(slice)).map_err(cannot)?;
                match tls {
                    Some(config) => with_tls(stream, host, config).map_err(cannot),
                    None => Ok(Stream::Tcp(stream)),
                }
            }
        }
    }
}

impl Stream {
    /// Whether the other side is still there, as far as is known here, and has said nothing.
    /// TLS says things of its own at any time: there, nothing is known.
    pub(super) fn is_quiet(&self) -> bool {
        match self {
            Stream::Tls(_) => true,
            _ => matches!(self.look(&mut [0], RecvFlags::PEEK), Err(Errno::WOULDBLOCK)),
        }
    }

    /// As `read`, but looks for bytes again and again instead of waiting for them. `None`: none
    /// have come by `until`.
    pub(super) fn read_by(
        &mut self,
        buffer: &mut [u8],
        until: Instant,
    ) -> io::Result<Option<usize>> {
        // Of what is encrypted, only that it is there can be told.
        let is_plain = !matches!(self, Stream::Tls(_));
        let (flags, length) = match is_plain {
            true => (RecvFlags::empty(), buffer.len()),
            false => (RecvFlags::PEEK, 1),
        };
        loop {
            match self.look(buffer.get_mut(..length).unwrap_or_default(), flags) {
                Ok(_) if !is_plain => return self.read(buffer).map(Some),
                Ok(length) => return Ok(Some(length)),
                Err(Errno::WOULDBLOCK) if Instant::now() < until => hint::spin_loop(),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until so many bytes have come, where that can be told, for a slice of time at most.
    pub(super) fn wait_for(&self, bytes: usize, slice: Duration) {
        if let Stream::Tcp(stream) = self {
            low_water::wait_for(stream, bytes, slice);
        }
    }

    /// What has come from the socket, without waiting.
    fn look(&self, buffer: &mut [u8], flags: RecvFlags) -> rustix::io::Result<usize> {
        let flags = flags | RecvFlags::DONTWAIT;
        let received = match self {
            Stream::Tcp(stream) => rustix::net::recv(stream, buffer, flags),
            Stream::Tls(stream) => rustix::net::recv(stream.get_ref(), buffer, flags),
            Stream::Unix(stream) => rustix::net::recv(stream, buffer, flags),
        };
        received.map(|(_, length)| length)
    }
}

fn with_tls(stream: TcpStream, host: &str, config: &Arc<ClientConfig>) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    Ok(Stream::Tls(Box::new(StreamOwned::new(session, stream))))
}

/// Looks the host up and connects on a thread of its own: neither can be interrupted, and the
/// caller must notice Ctrl-C. The thread ends by the connect timeout at the latest.
fn connect_tcp(
    address: &Address,
    (host, port): (&str, u16),
    options: &Options,
    call: &Call<'_>,
) -> Result<TcpStream> {
    let (sender, receiver) = mpsc::channel();
    let (host, timeout, started) = (host.to_owned(), options.connect_timeout, Instant::now());
    thread::Builder::new()
        .name("feastrs-connect".to_owned())
        .spawn(move || {
            // Nobody listens any more when the caller has given up: that is fine.
            let _ = sender.send(connect_any(&host, port, timeout));
        })
        .map_err(|source| cannot_connect(address, options, source))?;
    loop {
        match receiver.recv_timeout(WAIT_SLICE.min(timeout)) {
            Ok(outcome) => {
                return outcome.map_err(|source| cannot_connect(address, options, source));
            }
            Err(RecvTimeoutError::Timeout) if started.elapsed() < timeout => call.check()?,
            Err(RecvTimeoutError::Timeout) => {
                return Err(cannot_connect(address, options, io::ErrorKind::TimedOut.into()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let source = io::Error::other("the connecting thread has died");
                return Err(cannot_connect(address, options, source));
            }
        }
    }
}

/// Tries each address of the host until one answers, all within `timeout`.
fn connect_any(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let started = Instant::now();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn cannot_connect(address: &Address, options: &Options, source: io::Error) -> Error {
    let node = address.node();
    if source.kind() == io::ErrorKind::TimedOut {
        return Error::new(
            ErrorKind::StoreTimeout,
            format!(
                "can't connect to Redis at {node} within {:?} (socket_connect_timeout)",
                options.connect_timeout
            ),
        );
    }
    Error::new(ErrorKind::StoreUnavailable, format!("can't connect to Redis at {node}"))
        .with_source(source)
}

// The system's own calls: the C library's look for cancelled threads at each.

fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buffer, RecvFlags::empty())?.1)
}

fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, NO_SIGNAL)?)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => receive(stream, buffer),
            Stream::Tls(stream) => stream.read(buffer),
            Stream::Unix(stream) => receive(stream, buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => send(stream, buffer),
            Stream::Tls(stream) => stream.write(buffer),
            Stream::Unix(stream) => send(stream, buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
            Stream::Unix(stream) => stream.flush(),
        }
    }
}
