//! The task that owns a connection's socket: it writes what lies in the outbox, all of it at
//! once, and gives each reader the replies to its commands, in order. A reader that has gone
//! away leaves its place in the row, so that nobody ever gets the replies of another.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::super::codec::{CommandBuffer, Replies, ReplyParser};
use super::failure::Failure;
use super::outbox::{SharedOutbox, Slot};
use super::stream::Stream;

const RECEIVE_BUFFER: usize = 64 << 10;
/// Buffers that grew past this are given up when they are empty again.
const KEEP_BUFFER: usize = 1 << 20;

pub(super) struct Driver {
    stream: Stream,
    outbox: Arc<SharedOutbox>,
    node: Arc<str>,
    io_timeout: Duration,
    // What is being written is sending.bytes()[sent..].
    sending: CommandBuffer,
    sent: usize,
    // TLS keeps bytes of its own until it is flushed.
    needs_flush: bool,
    // For whom the next replies are, those of the commands in `sending` included.
    row: VecDeque<Slot>,
    // What was received and not yet given away is received[start..end].
    received: Vec<u8>,
    start: usize,
    end: usize,
    parser: ReplyParser,
    // When bytes last came, or were first waited for.
    progress: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    has_let_others_go_first: bool,
    // Whether the outbox holds commands that came while others were being sent.
    has_left_some: bool,
}

impl Driver {
    pub(super) fn new(
        stream: Stream,
        outbox: Arc<SharedOutbox>,
        node: Arc<str>,
        io_timeout: Duration,
    ) -> Self {
        Driver {
            stream,
            outbox,
            node,
            io_timeout,
            sending: CommandBuffer::default(),
            sent: 0,
            needs_flush: false,
            row: VecDeque::new(),
            received: vec![0; RECEIVE_BUFFER],
            start: 0,
            end: 0,
            parser: ReplyParser::default(),
            progress: Instant::now(),
            timer: None,
            has_let_others_go_first: false,
            has_left_some: false,
        }
    }

    /// Sends `commands` and waits for their replies, while the outbox waits.
    pub(super) async fn exchange(&mut self, commands: &CommandBuffer) -> Result<Replies, Failure> {
        let (reader, mut receiver) = oneshot::channel();
        self.sending.append(commands);
        let missing = commands.commands();
        self.row.push_back(Slot { missing, received: Replies::default(), reader });
        self.progress = Instant::now();
        std::future::poll_fn(|context| {
            let failed = self.poll_socket(context);
            // A server that ends the connection may have answered before: that counts.
            match Pin::new(&mut receiver).poll(context) {
                // The sender lies in our own row until it has sent.
                Poll::Ready(outcome) => {
                    Poll::Ready(outcome.unwrap_or_else(|_| Err(Failure::closed(&self.node))))
                }
                Poll::Pending => failed.map(Err),
            }
        })
        .await
    }

    /// Serves the outbox until the connection is of no use any more.
    pub(super) async fn serve(&mut self) -> Failure {
        std::future::poll_fn(|context| {
            loop {
                if let Some(failure) = self.take_outbox(context) {
                    return Poll::Ready(failure);
                }
                if let Poll::Ready(failure) = self.poll_socket(context) {
                    return Poll::Ready(failure);
                }
                // What had to wait for room in the socket may go now.
                if !self.has_left_some || !self.sending.bytes().is_empty() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Tells everybody who still waits in the row why nothing will come.
    pub(super) fn fail(self, failure: &Failure) {
        for slot in self.row {
            // Who has gone away need not know.
            let _ = slot.reader.send(Err(failure.clone()));
        }
    }

    /// Takes what the outbox holds if all that was taken before is on its way; `Some` when the
    /// connection has been given up.
    fn take_outbox(&mut self, context: &Context<'_>) -> Option<Failure> {
        let mut outbox = self.outbox.lock();
        if let Some(failure) = &outbox.failure {
            return Some(failure.clone());
        }
        let has_news = outbox.commands.commands() > 0;
        if has_news && !self.row.is_empty() && !self.has_let_others_go_first {
            // Under load, readers that are about to send go first: one write for all.
            self.has_let_others_go_first = true;
            self.has_left_some = false;
            context.waker().wake_by_ref();
            return None;
        }
        self.has_let_others_go_first = false;
        self.has_left_some = has_news && !self.sending.bytes().is_empty();
        if has_news && !self.has_left_some {
            if self.row.is_empty() {
                self.progress = Instant::now();
            }
            std::mem::swap(&mut outbox.commands, &mut self.sending);
            self.row.extend(outbox.slots.drain(..));
        }
        if !outbox.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            outbox.waker = Some(context.waker().clone());
        }
        None
    }

    fn poll_socket(&mut self, context: &mut Context<'_>) -> Poll<Failure> {
        if let Err(source) = self.poll_send(context) {
            return Poll::Ready(Failure::lost(&self.node, &source));
        }
        if let Poll::Ready(failure) = self.poll_receive(context) {
            return Poll::Ready(failure);
        }
        self.poll_overdue(context)
    }

    /// Sends as much as the socket takes.
    fn poll_send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while let Some(rest) = self.sending.bytes().get(self.sent..).filter(|r| !r.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => (self.sent, self.needs_flush) = (self.sent + count?, true),
                Poll::Pending => return Ok(()),
            }
        }
        if self.sent > 0 {
            self.sent = 0;
            self.sending.clear(KEEP_BUFFER);
        }
        if self.needs_flush && Pin::new(&mut self.stream).poll_flush(context)?.is_ready() {
            self.needs_flush = false;
        }
        Ok(())
    }

    /// Receives all that has come and gives it away.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Failure> {
        loop {
            self.make_room();
            let mut room = ReadBuf::new(self.received.get_mut(self.end..).unwrap_or_default());
            let outcome = ready!(Pin::new(&mut self.stream).poll_read(context, &mut room));
            let count = room.filled().len();
            if let Err(source) = outcome {
                return Poll::Ready(Failure::lost(&self.node, &source));
            }
            if count == 0 {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Poll::Ready(Failure::lost(&self.node, &source));
            }
            self.end += count;
            self.progress = Instant::now();
            if let Err(what) = self.give_away() {
                return Poll::Ready(Failure::no_redis(&self.node, &what));
            }
        }
    }

    /// Gives each whole reply to whom it belongs.
    fn give_away(&mut self) -> Result<(), String> {
        while let Some(slot) = self.row.front_mut() {
            let data = self.received.get(self.start..self.end).unwrap_or_default();
            let length = match self.parser.advance(data) {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(()),
                Err(malformed) => return Err(malformed.to_string()),
            };
            if !slot.reader.is_closed() {
                slot.received.push(self.parser.reply(data.get(..length).unwrap_or_default()));
            }
            self.start += length;
            slot.missing -= 1;
            if slot.missing == 0
                && let Some(slot) = self.row.pop_front()
            {
                // Who has gone away meanwhile does not want it.
                let _ = slot.reader.send(Ok(slot.received));
            }
        }
        match self.start == self.end {
            true => Ok(()),
            false => Err("a reply to nothing that was asked".to_owned()),
        }
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.received.len() > KEEP_BUFFER {
                self.received = vec![0; RECEIVE_BUFFER];
            }
        } else if self.received.len() - self.end < RECEIVE_BUFFER / 4 {
            self.received.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end > self.received.len() / 2 {
                self.received.resize(self.received.len() * 2, 0);
            }
        }
    }

    /// Ready when nothing has come for too long, though something is waited for. The timer
    /// is moved only when it goes off, not with each reply.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<Failure> {
        if self.row.is_empty() {
            return Poll::Pending;
        }
        loop {
            let due = self.progress + self.io_timeout;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            ready!(timer.as_mut().poll(context));
            if Instant::now() >= due {
                return Poll::Ready(Failure::overdue(&self.node, self.io_timeout));
            }
            timer.as_mut().reset(due);
        }
    }
}
