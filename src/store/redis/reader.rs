//! Reads: one command for each entity, pipelined with a bounded number in flight; replies go
//! to the sink as slices of the receive buffer. It remembers how far it got, so that a read
//! can go on over another connection or with another command.

use super::codec::{CommandBuffer, Reply};
use super::connection::Connection;
use super::read_layout::ReadLayout;
use super::refusal;
use super::timestamp::Timestamp;
use crate::call::Call;
use crate::config::ReadCommand;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ReadGroup, RowSink};

/// At most two chunks are in flight: their commands fit the sockets' buffers, so neither side
/// waits for the other to read, and their replies stay near a megabyte.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNK_KEYS: usize = 512;

type Slots<'a> = Vec<Option<&'a [u8]>>;

pub(super) struct Reader<'a> {
    groups: &'a [ReadGroup<'a>],
    project: &'a [u8],
    layouts: Vec<ReadLayout>,
    next_send: Position,
    next_receive: Position,
    last_chunk: usize,
    is_hgetall_withheld: bool,
}

/// A key of a group; past the last group when all are done.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Position {
    group: usize,
    key: usize,
}

enum Taken {
    Row,
    HgetallWithheld,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        groups: &'a [ReadGroup<'a>],
        project: &'a [u8],
        command: ReadCommand,
    ) -> Self {
        let layouts = groups.iter().map(|group| ReadLayout::new(group, command)).collect();
        let start = Position { group: 0, key: 0 }.settle(groups);
        Reader {
            groups,
            project,
            layouts,
            next_send: start,
            next_receive: start,
            last_chunk: 0,
            is_hgetall_withheld: false,
        }
    }

    /// Whether every row has been given to the sink.
    pub(super) fn is_finished(&self) -> bool {
        self.next_receive.group == self.groups.len()
    }

    /// Whether the server refused HGETALL and HMGET was used instead.
    pub(super) fn has_seen_hgetall_withheld(&self) -> bool {
        self.is_hgetall_withheld
    }

    /// Makes the next [`run`](Self::run) go on, over a new connection, where this one stopped.
    pub(super) fn resume(&mut self) {
        self.next_send = self.next_receive;
        self.last_chunk = 0;
    }

    /// Reads all that is left to read.
    pub(super) fn run(
        &mut self,
        connection: &mut Connection,
        sink: &mut dyn RowSink,
        call: &Call<'_>,
    ) -> Result<()> {
        let node = connection.node().clone();
        let mut spare: Slots<'static> = Vec::new();
        while !self.is_finished() {
            if connection.outstanding() <= self.last_chunk {
                self.send_chunk(connection, call)?;
            }
            let mut slots = reuse(spare);
            let reply = connection.receive(call)?;
            let taken = self.take(reply, &mut slots, sink, &node)?;
            spare = reuse(slots);
            match taken {
                Taken::Row => self.next_receive = self.next_receive.after(self.groups),
                Taken::HgetallWithheld => {
                    connection.discard_outstanding(call)?;
                    self.give_up_hgetall();
                }
            }
        }
        Ok(())
    }

    fn send_chunk(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        let before = connection.outstanding();
        while let (Some(group), Some(layout)) =
            (self.groups.get(self.next_send.group), self.layouts.get(self.next_send.group))
        {
            connection.set_doing(if layout.is_hgetall { "HGETALL" } else { "HMGET" });
            let commands = connection.commands();
            if commands.commands() == CHUNK_KEYS || commands.bytes().len() >= CHUNK_BYTES {
                break;
            }
            self.encode(commands, layout, group.keys.get(self.next_send.key));
            self.next_send = self.next_send.after(self.groups);
        }
        if connection.commands().commands() > 0 {
            connection.send(call)?;
        }
        self.last_chunk = connection.outstanding() - before;
        Ok(())
    }

    fn encode(&self, commands: &mut CommandBuffer, layout: &ReadLayout, key: &[u8]) {
        if layout.is_hgetall {
            commands.begin(2);
            commands.argument(b"HGETALL");
            commands.argument_of(key, self.project);
        } else {
            commands.begin(2 + layout.slots);
            commands.argument(b"HMGET");
            commands.argument_of(key, self.project);
            commands.encoded(&layout.fields);
        }
    }

    /// Gives the rows of one entity to the sink.
    fn take<'r>(
        &self,
        reply: Reply<'r>,
        slots: &mut Slots<'r>,
        sink: &mut dyn RowSink,
        node: &str,
    ) -> Result<Taken> {
        let index = self.next_receive.group;
        let Some(layout) = self.layouts.get(index) else { return Ok(Taken::Row) };
        if let Some(text) = reply.error() {
            if layout.is_hgetall && refusal::is_command_withheld(text) && !self.is_hgetall_withheld
            {
                return Ok(Taken::HgetallWithheld);
            }
            let command = if layout.is_hgetall { "HGETALL" } else { "HMGET" };
            return Err(refusal::refused(node, command, text).context(self.shown_key()));
        }
        self.fill(layout, reply, slots)?;
        for (view, place) in layout.views.iter().enumerate() {
            let timestamp = slots.get(place.timestamp).copied().flatten();
            let row = slots.get_mut(place.timestamp + 1..place.end).unwrap_or_default();
            let timestamp = match timestamp {
                Some(bytes) => Some(self.decode_timestamp(bytes, index, view)?),
                None => {
                    // Values without a timestamp are leftovers of a row that is gone.
                    row.fill(None);
                    None
                }
            };
            sink.row(index, view, timestamp, row)?;
        }
        Ok(Taken::Row)
    }

    fn fill<'r>(&self, layout: &ReadLayout, reply: Reply<'r>, slots: &mut Slots<'r>) -> Result<()> {
        slots.clear();
        let Some(strings) = reply.strings() else { return Err(self.unexpected(reply)) };
        if layout.is_hgetall {
            slots.resize(layout.slots, None);
            if !layout.place(strings, slots) {
                return Err(self.unexpected(reply));
            }
        } else {
            slots.extend(strings);
            if slots.len() != layout.slots {
                return Err(self.unexpected(reply));
            }
        }
        Ok(())
    }

    fn decode_timestamp(&self, bytes: &[u8], group: usize, view: usize) -> Result<i64> {
        Timestamp::decode(bytes).and_then(Timestamp::to_micros).ok_or_else(|| {
            let name = self.groups.get(group).and_then(|group| group.views.get(view));
            let name = name.map(|view| view.name.as_str()).unwrap_or_default();
            Error::new(
                ErrorKind::StoreInvalid,
                format!(
                    "{} has in its field '_ts:{name}' something that is no timestamp",
                    self.shown_key()
                ),
            )
        })
    }

    #[cold]
    fn unexpected(&self, reply: Reply<'_>) -> Error {
        let elements = reply.array_len().unwrap_or_default();
        Error::new(
            ErrorKind::StoreInvalid,
            format!(
                "{} was answered with something that is no hash ({elements} elements)",
                self.shown_key()
            ),
        )
    }

    #[cold]
    fn shown_key(&self) -> String {
        let Position { group, key } = self.next_receive;
        let key = self.groups.get(group).map(|group| group.keys.get(key)).unwrap_or_default();
        format!("Redis key {}", refusal::shown(&[key, self.project].concat()))
    }

    fn give_up_hgetall(&mut self) {
        self.is_hgetall_withheld = true;
        for layout in &mut self.layouts {
            layout.is_hgetall = false;
        }
        self.resume();
    }
}

impl Position {
    fn after(self, groups: &[ReadGroup<'_>]) -> Self {
        Position { group: self.group, key: self.key + 1 }.settle(groups)
    }

    /// Skips groups that have no key left, or no view to read.
    fn settle(mut self, groups: &[ReadGroup<'_>]) -> Self {
        while let Some(group) = groups.get(self.group)
            && (self.key >= group.keys.len() || group.views.is_empty())
        {
            self = Position { group: self.group + 1, key: 0 };
        }
        self
    }
}

/// The same memory for slices that live elsewhere: an empty vector has no lifetime to keep,
/// and `collect` of a vector's own iterator reuses the allocation.
fn reuse<'a>(mut slots: Slots<'_>) -> Slots<'a> {
    slots.clear();
    slots.into_iter().map(|_| None).collect()
}
