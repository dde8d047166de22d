//! One connection: commands out, replies in, each wait in slices in which the caller may stop
//! it. It knows how many replies it is owed, so that nobody ever reads another's.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::busy_poll::BusyPoll;
use super::codec::{CommandBuffer, Reply, ReplyParser};
use super::handshake::{Handshake, Purpose};
use super::options::{Address, Options};
use super::stream::Stream;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};

const RECEIVE_BUFFER: usize = 64 << 10;
/// How long the answer to a PING may take that tells whether an idle connection still lives.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that was last used longer ago is looked at before it is used: the server may
/// have closed it, or have said something that nobody asked for. In between small reads that
/// follow each other closely, the look would show in their time.
const UNSEEN: Duration = Duration::from_micros(500);
/// Buffers that grew past this are given up when the connection goes back to its pool.
const KEEP_BUFFER: usize = 4 << 20;

/// What most commands are answered with that do something.
pub(super) const OK_BYTES: usize = b"+OK\r\n".len();
/// Fewer bytes of replies come at once anyway.
const WORTH_WAITING: usize = 64;

pub(super) struct Connection {
    stream: Stream,
    node: Arc<str>,
    io_timeout: Duration,
    commands: CommandBuffer,
    // What was received and not yet taken is received[start..end].
    received: Vec<u8>,
    start: usize,
    end: usize,
    parser: ReplyParser,
    outstanding: usize,
    busy_poll: BusyPoll,
    // Until when the reply to what was sent last is looked for.
    look_until: Option<Instant>,
    doing: &'static str,
    is_exclusive: bool,
    has_answered: bool,
    last_used: Instant,
}

impl Connection {
    /// Connects to `address`, which messages call `node`, and introduces itself.
    pub(super) fn open(
        address: &Address,
        node: &Arc<str>,
        options: &Options,
        tls: Option<&Arc<ClientConfig>>,
        purpose: Purpose,
        call: &Call<'_>,
    ) -> Result<Self> {
        let mut connection = Connection {
            stream: Stream::open(address, options, tls, call)?,
            node: node.clone(),
            io_timeout: options.io_timeout,
            commands: CommandBuffer::default(),
            received: vec![0; RECEIVE_BUFFER],
            start: 0,
            end: 0,
            parser: ReplyParser::default(),
            outstanding: 0,
            busy_poll: BusyPoll::new(options.busy_poll),
            look_until: None,
            doing: "the handshake",
            is_exclusive: false,
            has_answered: false,
            last_used: Instant::now(),
        };
        connection.introduce(options, purpose, call)?;
        Ok(connection)
    }

    fn introduce(&mut self, options: &Options, purpose: Purpose, call: &Call<'_>) -> Result<()> {
        let mut handshake = Handshake::begin(options, purpose, &mut self.commands);
        if !handshake.is_complete() {
            self.send(call)?;
        }
        let node = self.node.clone();
        while !handshake.is_complete() {
            handshake.judge(self.receive(call)?, &node)?;
        }
        Ok(())
    }

    /// The commands that the next [`send`](Self::send) will send.
    pub(super) fn commands(&mut self) -> &mut CommandBuffer {
        &mut self.commands
    }

    /// What the connection is used for, for messages.
    pub(super) fn set_doing(&mut self, doing: &'static str) {
        self.doing = doing;
    }

    /// `host:port`, for messages.
    pub(super) fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Replies that were asked for and not yet received.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Says whether a WATCH or MULTI is open; until it is closed, nobody else may have it.
    pub(super) fn set_exclusive(&mut self, is_exclusive: bool) {
        self.is_exclusive = is_exclusive;
    }

    /// Whether any reply ever came. Where none did, it may be that none ever will: what is wrong
    /// with a certificate is often said after the connection has come about.
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Whether the next to use it will find it as new.
    pub(super) fn is_clean(&self) -> bool {
        self.outstanding == 0
            && !self.is_exclusive
            && self.start == self.end
            && self.commands.bytes().is_empty()
    }

    /// Whether a connection that has idled may be used: it is tried out with PING where it
    /// idled for longer than `health_check_interval`.
    ///
    /// Errors: the caller wants to stop.
    pub(super) fn is_usable(
        &mut self,
        health_check_interval: Option<Duration>,
        call: &Call<'_>,
    ) -> Result<bool> {
        let now = Instant::now();
        let idle = now.saturating_duration_since(self.last_used);
        self.last_used = now;
        if idle < UNSEEN {
            return Ok(true);
        }
        if !self.stream.is_quiet() {
            return Ok(false);
        }
        if health_check_interval.is_none_or(|interval| idle < interval) {
            return Ok(true);
        }
        match self.probe(call) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            outcome => Ok(outcome.unwrap_or(false)),
        }
    }

    #[cold]
    fn probe(&mut self, call: &Call<'_>) -> Result<bool> {
        let io_timeout = self.io_timeout;
        self.io_timeout = io_timeout.min(PROBE_TIMEOUT);
        self.doing = "PING";
        self.commands.command(&[b"PING"]);
        self.send(call)?;
        let reply = self.receive(call)?;
        // Whoever may not PING is answered all the same.
        let is_alive = reply.text() == Some(b"PONG") || reply.error().is_some();
        self.io_timeout = io_timeout;
        Ok(is_alive)
    }

    /// Makes it ready to wait in a pool.
    pub(super) fn rest(&mut self) {
        self.commands.clear(KEEP_BUFFER);
        if self.received.len() > KEEP_BUFFER {
            self.received = vec![0; RECEIVE_BUFFER];
            (self.start, self.end) = (0, 0);
        }
    }

    /// Sends the commands. Whether the caller wants to stop is asked only where there is to be
    /// waited: asking costs more than sending.
    pub(super) fn send(&mut self, call: &Call<'_>) -> Result<()> {
        call.check_deadline()?;
        self.outstanding += self.commands.commands();
        let mut sent = 0;
        let mut stalled: Option<Instant> = None;
        while let Some(rest) = self.commands.bytes().get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(self.lost(io::ErrorKind::WriteZero.into())),
                Ok(count) => (sent, stalled) = (sent + count, None),
                Err(error) => self.wait_or_fail(error, &mut stalled, call)?,
            }
        }
        let mut stalled = None;
        while let Err(error) = self.stream.flush() {
            self.wait_or_fail(error, &mut stalled, call)?;
        }
        self.look_until = self.busy_poll.until(self.commands.commands());
        self.commands.clear(usize::MAX);
        Ok(())
    }

    /// The next reply, borrowed from the receive buffer.
    pub(super) fn receive(&mut self, call: &Call<'_>) -> Result<Reply<'_>> {
        if self.outstanding == 0 {
            return Err(Error::new(
                ErrorKind::Internal,
                "a reply was awaited that nobody asked for",
            ));
        }
        let length = loop {
            let data = self.received.get(self.start..self.end).unwrap_or_default();
            match self.parser.advance(data) {
                Ok(Some(length)) => break length,
                Ok(None) => self.fill(call)?,
                Err(malformed) => return Err(self.no_redis(&malformed.to_string())),
            }
        };
        let begin = self.start;
        self.start += length;
        self.outstanding -= 1;
        self.has_answered = true;
        if self.outstanding == 0 && self.start != self.end {
            // Then who knows which of them answered what.
            return Err(self.no_redis("more replies than there were commands"));
        }
        Ok(self.parser.reply(self.received.get(begin..begin + length).unwrap_or_default()))
    }

    /// Waits for many short replies, which have so many bytes at least, or for a slice of time.
    /// Whoever reads the first few of them at once is woken again and again, by a server that
    /// has better things to do.
    pub(super) fn await_replies(&mut self, bytes: usize) {
        let missing = bytes.saturating_sub(self.end - self.start);
        if missing > WORTH_WAITING {
            self.stream.wait_for(missing, crate::call::WAIT_SLICE.min(self.io_timeout));
        }
    }

    /// Receives the replies that are still owed and forgets them.
    pub(super) fn discard_outstanding(&mut self, call: &Call<'_>) -> Result<()> {
        while self.outstanding > 0 {
            self.receive(call)?;
        }
        Ok(())
    }

    /// Receives some bytes more.
    fn fill(&mut self, call: &Call<'_>) -> Result<()> {
        self.make_room();
        let mut stalled = None;
        loop {
            match self.read_some() {
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(error) => self.wait_or_fail(error, &mut stalled, call)?,
            }
        }
    }

    /// What the stream has. The first bytes after a request are looked for before they are
    /// waited for.
    fn read_some(&mut self) -> io::Result<usize> {
        let room = self.received.get_mut(self.end..).unwrap_or_default();
        if let Some(until) = self.look_until.take() {
            let seen = self.stream.read_by(room, until)?;
            self.busy_poll.learn(seen.is_some());
            if let Some(length) = seen {
                return Ok(length);
            }
        }
        self.stream.read(room)
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.received.len() - self.end < RECEIVE_BUFFER / 4 {
            self.received.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end > self.received.len() / 2 {
                self.received.resize(self.received.len() * 2, 0);
            }
        }
    }

    /// After a read or write that gave nothing: `Ok` to try again.
    #[cold]
    fn wait_or_fail(
        &self,
        error: io::Error,
        stalled: &mut Option<Instant>,
        call: &Call<'_>,
    ) -> Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => return call.check(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => call.check()?,
            _ => return Err(self.lost(error)),
        }
        // The slice that has just passed counts: it was spent waiting.
        let slice = crate::call::WAIT_SLICE.min(self.io_timeout);
        let waited = stalled.get_or_insert_with(Instant::now).elapsed() + slice;
        if waited < self.io_timeout {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::StoreTimeout,
            format!(
                "Redis at {} did not answer {} within {:?}; it is overloaded or out of reach, or \
                 socket_timeout or ssl in connection_string is not what it should be",
                self.node, self.doing, self.io_timeout
            ),
        ))
    }

    #[cold]
    fn lost(&self, source: io::Error) -> Error {
        Error::new(
            ErrorKind::StoreUnavailable,
            format!("the connection to Redis at {} broke during {}", self.node, self.doing),
        )
        .with_source(source)
    }

    #[cold]
    fn no_redis(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::StoreInvalid,
            format!(
                "{} answered {} with something that is no Redis protocol ({what}); does \
                 connection_string name the right port, and ssl=true if the server wants TLS?",
                self.node, self.doing
            ),
        )
    }
}
