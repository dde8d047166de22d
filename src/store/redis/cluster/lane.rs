//! The part of a read that one node is asked for: the keys to ask it for, those that it was
//! asked for, and a bounded number of them under way. Replies come in the order of the
//! questions; which reply is whose is decided here and nowhere else. Pure.

use std::collections::VecDeque;

use super::super::codec::CommandBuffer;
use super::super::options::Address;
use super::super::read_job::{Position, ReadJob};
use super::super::reader::{CHUNK_BYTES, CHUNK_KEYS};

/// A key to be asked for: its place in the order of the read, and whether the node must be
/// told that it does not own the key's slot yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) index: usize,
    pub(super) is_asking: bool,
}

/// What a reply is the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Asking,
    Key(usize),
}

pub(super) struct Lane {
    address: Address,
    unsent: VecDeque<Question>,
    sent: VecDeque<Sent>,
    last_chunk: usize,
}

impl Lane {
    pub(super) fn new(address: Address) -> Self {
        Lane { address, unsent: VecDeque::new(), sent: VecDeque::new(), last_chunk: 0 }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn add(&mut self, question: Question) {
        self.unsent.push_back(question);
    }

    /// Puts the questions into the order of the read, after others were added.
    pub(super) fn sort(&mut self) {
        self.unsent.make_contiguous().sort_unstable();
    }

    /// How many keys are still to be asked for.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Whether a chunk is to be sent: there is one, and not enough is under way.
    pub(super) fn is_sending(&self) -> bool {
        !self.unsent.is_empty() && self.sent.len() <= self.last_chunk
    }

    /// Takes the next chunk of questions as asked, for about `most_fields` fields of hashes at
    /// most, and appends their commands; the name of the last one.
    pub(super) fn next_chunk(
        &mut self,
        job: &ReadJob<'_>,
        keys: &[Position],
        most_fields: usize,
        commands: &mut CommandBuffer,
    ) -> &'static str {
        let (before, mut name, mut fields) = (self.sent.len(), "", 0);
        while commands.commands() < CHUNK_KEYS
            && commands.bytes().len() < CHUNK_BYTES
            && fields < most_fields
        {
            let Some(Question { index, is_asking }) = self.unsent.pop_front() else { break };
            let Some(&position) = keys.get(index) else { continue };
            if is_asking {
                commands.command(&[b"ASKING"]);
                self.sent.push_back(Sent::Asking);
            }
            fields += job.fields(position);
            job.encode(position, commands);
            self.sent.push_back(Sent::Key(index));
            name = job.command(position);
        }
        self.last_chunk = self.sent.len() - before;
        name
    }

    /// A reply has come: what it answers, which is under way no more.
    pub(super) fn answered(&mut self) -> Option<Sent> {
        self.sent.pop_front()
    }

    /// Takes all questions back, those under way included: nobody may take the answers to these
    /// any more.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = Question> + '_ {
        self.last_chunk = 0;
        let under_way = self.sent.drain(..).filter_map(|sent| match sent {
            Sent::Asking => None,
            Sent::Key(index) => Some(Question { index, is_asking: false }),
        });
        under_way.chain(self.unsent.drain(..))
    }

    /// Takes back the questions that have not been sent.
    pub(super) fn take_unsent(&mut self) -> impl Iterator<Item = Question> + '_ {
        self.unsent.drain(..)
    }
}
