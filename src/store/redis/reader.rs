//! Reads over one blocking connection: commands pipelined with a bounded number in flight,
//! replies to the sink as slices of the receive buffer. It remembers how far it got, so that a
//! read can go on over another connection or with another command.

use super::connection::Connection;
use super::read_job::{Position, ReadJob, Slots, Taken, reuse};
use crate::call::Call;
use crate::error::Result;
use crate::store::RowSink;

/// At most two chunks are in flight: their commands fit the sockets' buffers, so neither side
/// waits for the other to read, and their replies stay near a megabyte.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
pub(super) const CHUNK_KEYS: usize = 512;

pub(super) struct Reader<'a> {
    job: ReadJob<'a>,
    // `None`: all are done.
    next_send: Option<Position>,
    next_receive: Option<Position>,
    last_chunk: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(job: ReadJob<'a>) -> Self {
        let first = job.first();
        Reader { job, next_send: first, next_receive: first, last_chunk: 0 }
    }

    /// Whether the server refused HGETALL and HMGET was used instead.
    pub(super) fn has_given_up_hgetall(&self) -> bool {
        self.job.has_given_up_hgetall()
    }

    /// Makes the next [`run`](Self::run) go on, over a new connection, where this one stopped.
    pub(super) fn resume(&mut self) {
        self.next_send = self.next_receive;
        self.last_chunk = 0;
    }

    /// Reads all that is left to read; `node` is the server, for messages.
    pub(super) fn run(
        &mut self,
        connection: &mut Connection,
        node: &str,
        sink: &mut dyn RowSink,
        call: &Call<'_>,
    ) -> Result<()> {
        let mut spare: Slots<'static> = Vec::new();
        while let Some(position) = self.next_receive {
            if connection.outstanding() <= self.last_chunk {
                self.send_chunk(connection, call)?;
            }
            let mut slots = reuse(spare);
            let reply = connection.receive(call)?;
            let taken = self.job.take(position, reply, &mut slots, sink, node)?;
            spare = reuse(slots);
            match taken {
                Taken::Row => self.next_receive = self.job.after(position),
                Taken::HgetallWithheld => {
                    connection.discard_outstanding(call)?;
                    self.job.give_up_hgetall();
                    self.resume();
                }
            }
        }
        Ok(())
    }

    fn send_chunk(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        let before = connection.outstanding();
        while let Some(position) = self.next_send {
            connection.set_doing(self.job.command(position));
            let commands = connection.commands();
            if commands.commands() == CHUNK_KEYS || commands.bytes().len() >= CHUNK_BYTES {
                break;
            }
            self.job.encode(position, commands);
            self.next_send = self.job.after(position);
        }
        if connection.commands().commands() > 0 {
            connection.send(call)?;
        }
        self.last_chunk = connection.outstanding() - before;
        Ok(())
    }
}
