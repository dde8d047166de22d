//! One read of one server over asynchronous connections. It remembers how far it got, so that it
//! can go on over another connection or with another command; dropped at any moment, it leaves
//! the connection in order.
//!
//! A large read keeps nobody waiting: it asks for few fields at a time, so that the server can
//! answer others in between, and between answers it lets other tasks have its thread.

use std::collections::VecDeque;
use std::time::Instant;

use super::super::codec::{CommandBuffer, Replies};
use super::super::pool::Pool;
use super::super::read_job::{Position, ReadJob, Slots, Taken};
use super::connections::Line;
use super::failure::{Failure, Reason};
use crate::error::{Error, Result};
use crate::runtime;
use crate::store::RowSink;

/// Commands that are sent at once, and how often before the first are answered.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNK_KEYS: usize = 512;
const CHUNKS_IN_FLIGHT: usize = 2;
/// The same of a large read, in fields of hashes: what a server takes a fraction of a
/// millisecond for.
pub(in super::super) const CHUNK_FIELDS: usize = 2048;

/// Why a read can't go on over its connection.
pub(in super::super) enum Stop {
    Failure(Failure),
    Error(Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failure(failure)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

pub(in super::super) struct Reader<'a> {
    job: ReadJob<'a>,
    sink: &'a mut (dyn RowSink + Send),
    // The first key whose rows the sink does not have; `None`: all are done.
    next: Option<Position>,
    started: Instant,
}

impl<'a> Reader<'a> {
    pub(in super::super) fn new(job: ReadJob<'a>, sink: &'a mut (dyn RowSink + Send)) -> Self {
        let next = job.first();
        Reader { job, sink, next, started: Instant::now() }
    }

    /// Whether the server refused HGETALL and HMGET was used instead.
    pub(in super::super) fn has_given_up_hgetall(&self) -> bool {
        self.job.has_given_up_hgetall()
    }

    /// Reads all that is left to read from the node of `pool`.
    pub(in super::super) async fn read(&mut self, pool: &Pool) -> std::result::Result<(), Stop> {
        loop {
            let outcome = self.read_once(pool).await;
            let is_of_others = matches!(&outcome, Err(Stop::Failure(failure))
                if failure.reason == Reason::Overdue
                    && self.started.elapsed() < pool.options().io_timeout);
            // Overdue for others who had waited longer: this read's own time is not over.
            if !is_of_others {
                return outcome;
            }
        }
    }

    async fn read_once(&mut self, pool: &Pool) -> std::result::Result<(), Stop> {
        let (keys, fields) = (self.job.key_count(), self.job.field_count());
        let line = pool.asynchronous().line(pool.target(), keys, fields).await?;
        self.run(&line, pool.node()).await?;
        line.give_back();
        Ok(())
    }

    /// Reads all that is left to read over `line`.
    async fn run(&mut self, line: &Line, node: &str) -> std::result::Result<(), Stop> {
        let most_fields = if line.is_own() { CHUNK_FIELDS } else { usize::MAX };
        let (mut unsent, mut coming) = (self.next, VecDeque::new());
        while self.next.is_some() {
            while coming.len() < CHUNKS_IN_FLIGHT && unsent.is_some() {
                let Some(turn) = line.turn(coming.is_empty()).await? else { break };
                let (commands, rest) = self.chunk(unsent, most_fields);
                coming.push_back((line.send(&commands)?, turn));
                unsent = rest;
            }
            let Some((first, turn)) = coming.pop_front() else { break };
            let replies = first.replies().await?;
            drop(turn);
            if line.is_own() {
                runtime::give_way().await;
            }
            if self.take(&replies, node)? == Taken::HgetallWithheld {
                // What follows was asked with the command that is refused, too.
                coming.clear();
                unsent = self.next;
            }
        }
        Ok(())
    }

    /// The commands of the next keys from `position` on, and where those after them begin.
    fn chunk(
        &self,
        position: Option<Position>,
        most_fields: usize,
    ) -> (CommandBuffer, Option<Position>) {
        let (mut commands, mut next, mut fields) = (CommandBuffer::default(), position, 0);
        while let Some(position) = next {
            if commands.commands() == CHUNK_KEYS
                || commands.bytes().len() >= CHUNK_BYTES
                || fields >= most_fields
            {
                break;
            }
            fields += self.job.fields(position);
            self.job.encode(position, &mut commands);
            next = self.job.after(position);
        }
        (commands, next)
    }

    fn take(&mut self, replies: &Replies, node: &str) -> Result<Taken> {
        let mut slots = Slots::new();
        for reply in replies.iter() {
            let Some(position) = self.next else { break };
            match self.job.take(position, reply, &mut slots, self.sink, node)? {
                Taken::Row => self.next = self.job.after(position),
                Taken::HgetallWithheld => {
                    self.job.give_up_hgetall();
                    return Ok(Taken::HgetallWithheld);
                }
            }
        }
        Ok(Taken::Row)
    }
}
