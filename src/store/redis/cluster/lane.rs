//! The conversation with one node during one read: the keys that it is to be asked for, those
//! that it was asked for, and a bounded number of them under way. Replies come in the order of
//! the questions; which reply is whose is decided here and nowhere else.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::codec::Reply;
use super::super::pool::{Lease, Pool};
use super::super::read_job::{Position, ReadJob};
use super::super::reader::{CHUNK_BYTES, CHUNK_KEYS};
use super::super::refusal;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};

/// A key to be asked for: its place in the order of the read, and whether the node must be
/// told that it does not own the key's slot yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) index: usize,
    pub(super) is_asking: bool,
}

#[derive(Clone, Copy)]
enum Sent {
    Asking,
    Key(usize),
}

/// A reply, the key that it is for, and the node that gave it.
pub(super) struct Answer<'a> {
    pub(super) index: usize,
    pub(super) reply: Reply<'a>,
    pub(super) pool: &'a Pool,
}

pub(super) struct Lane {
    pub(super) pool: Arc<Pool>,
    // `None`: not connected (yet, or any more); then nothing is under way.
    lease: Option<Lease>,
    unsent: VecDeque<Question>,
    sent: VecDeque<Sent>,
    last_chunk: usize,
}

impl Lane {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        let (unsent, sent) = (VecDeque::new(), VecDeque::new());
        Lane { pool, lease: None, unsent, sent, last_chunk: 0 }
    }

    pub(super) fn add(&mut self, question: Question) {
        self.unsent.push_back(question);
    }

    /// Puts the questions into the order of the read, after others were added.
    pub(super) fn sort(&mut self) {
        self.unsent.make_contiguous().sort_unstable();
    }

    pub(super) fn has_questions(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Connects, if it is not connected. `may_wait`: whether to wait for a connection where
    /// all are in use.
    pub(super) fn connect(&mut self, may_wait: bool, call: &Call<'_>) -> Result<()> {
        if self.lease.is_none() {
            self.lease = Some(match may_wait {
                true => self.pool.take(call)?,
                false => self.pool.take_at_once(call)?,
            });
        }
        Ok(())
    }

    /// Sends a chunk of questions, unless enough are under way.
    pub(super) fn top_up(
        &mut self,
        job: &ReadJob<'_>,
        keys: &[Position],
        call: &Call<'_>,
    ) -> Result<()> {
        if self.unsent.is_empty() || self.sent.len() > self.last_chunk {
            return Ok(());
        }
        self.connect(false, call)?;
        let Some(lease) = &mut self.lease else { return Ok(()) };
        let (connection, before) = (&mut lease.connection, self.sent.len());
        while let Some(&Question { index, is_asking }) = self.unsent.front() {
            let commands = connection.commands();
            if commands.commands() >= CHUNK_KEYS || commands.bytes().len() >= CHUNK_BYTES {
                break;
            }
            self.unsent.pop_front();
            let Some(&position) = keys.get(index) else { continue };
            if is_asking {
                commands.command(&[b"ASKING"]);
                self.sent.push_back(Sent::Asking);
            }
            job.encode(position, commands);
            self.sent.push_back(Sent::Key(index));
            connection.set_doing(job.command(position));
        }
        self.last_chunk = self.sent.len() - before;
        connection.send(call)
    }

    /// The next reply, and the key that it is for.
    pub(super) fn receive(&mut self, call: &Call<'_>) -> Result<Answer<'_>> {
        let Lane { pool, lease: Some(Lease { connection, .. }), sent, .. } = self else {
            return Err(nothing_asked(self.pool.node()));
        };
        if let Some(Sent::Asking) = sent.front() {
            if let Some(text) = connection.receive(call)?.error() {
                return Err(refusal::refused(pool.node(), "ASKING", text));
            }
            sent.pop_front();
        }
        let Some(&Sent::Key(index)) = sent.front() else {
            return Err(nothing_asked(pool.node()));
        };
        let reply = connection.receive(call)?;
        // Not before: what was not answered is asked again elsewhere.
        sent.pop_front();
        Ok(Answer { index, reply, pool })
    }

    /// Takes all questions back, those under way included: for these, the connection is closed,
    /// so that nobody ever reads the answers.
    pub(super) fn abandon(&mut self) -> Vec<Question> {
        let under_way = self.sent.drain(..).filter_map(|sent| match sent {
            Sent::Asking => None,
            Sent::Key(index) => Some(Question { index, is_asking: false }),
        });
        let questions = under_way.chain(self.unsent.drain(..)).collect();
        self.lease = None;
        self.last_chunk = 0;
        questions
    }

    /// Takes back the questions that have not been sent.
    pub(super) fn take_unsent(&mut self) -> Vec<Question> {
        self.unsent.drain(..).collect()
    }

    /// Ends the conversation. A connection that is owed a reply is closed.
    pub(super) fn finish(self) {
        if let Some(lease) = self.lease {
            lease.give_back();
        }
    }
}

#[cold]
fn nothing_asked(node: &str) -> Error {
    let message = format!("a reply of {node} was awaited that nobody asked for");
    Error::new(ErrorKind::Internal, message)
}
