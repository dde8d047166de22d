//! What one read asks of a server, and how its replies become rows: one command for each
//! entity, each key of each group at its [`Position`]. Pure: no sockets, so that every driver
//! (blocking, asynchronous, many nodes) shares it.

use smallvec::SmallVec;

use super::codec::{CommandBuffer, Reply};
use super::read_layout::ReadLayout;
use super::refusal;
use super::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::store::RowSink;
use crate::value::PackedBytes;

/// Of so many hashes that are taken whole, one could be looked at more closely.
const OFFER_EVERY: usize = 64;

/// Room for the fields of one entity's hash, borrowed from a reply.
pub(super) type Slots<'a> = Vec<Option<&'a [u8]>>;

/// The commands of one read, and what their replies mean.
pub(super) struct ReadJob<'a> {
    layouts: &'a [ReadLayout],
    keys: &'a [PackedBytes],
    project: &'a [u8],
    // For each group. Settled for the whole job, whatever is learned meanwhile.
    uses_hgetall: SmallVec<[bool; 8]>,
    has_given_up_hgetall: bool,
}

/// A key of a group; past the last group when all are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) group: usize,
    pub(super) key: usize,
}

/// What a reply was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The rows of one entity; the sink has them.
    Row,
    /// A refusal of HGETALL: the key, and all that follow, are to be asked for again after
    /// [`ReadJob::give_up_hgetall`].
    HgetallWithheld,
}

impl<'a> ReadJob<'a> {
    /// `keys[g]` are read as `layouts[g]` says; `may_hgetall` is false where the server is
    /// known to refuse it.
    pub(super) fn new(
        layouts: &'a [ReadLayout],
        keys: &'a [PackedBytes],
        project: &'a [u8],
        may_hgetall: bool,
    ) -> Self {
        let uses_hgetall =
            layouts.iter().map(|layout| may_hgetall && layout.rule.uses_hgetall()).collect();
        ReadJob { layouts, keys, project, uses_hgetall, has_given_up_hgetall: false }
    }

    /// The first key; `None` where there is nothing to read.
    pub(super) fn first(&self) -> Option<Position> {
        self.settle(Position { group: 0, key: 0 })
    }

    /// The key after `position`; `None` after the last.
    pub(super) fn after(&self, position: Position) -> Option<Position> {
        self.settle(Position { group: position.group, key: position.key + 1 })
    }

    // Skips groups that have no key left, or no view to read.
    fn settle(&self, mut position: Position) -> Option<Position> {
        loop {
            let (keys, layout) =
                (self.keys.get(position.group)?, self.layouts.get(position.group)?);
            if position.key < keys.len() && !layout.views.is_empty() {
                return Some(position);
            }
            position = Position { group: position.group + 1, key: 0 };
        }
    }

    /// How many keys there are to read, in all groups.
    pub(super) fn key_count(&self) -> usize {
        self.keys.iter().map(PackedBytes::len).sum()
    }

    /// How many fields the server looks through to answer for the key at `position`, about.
    pub(super) fn fields(&self, position: Position) -> usize {
        self.layouts.get(position.group).map_or(0, ReadLayout::fields_of_hash)
    }

    /// The same for all keys.
    pub(super) fn field_count(&self) -> usize {
        let groups = self.keys.iter().zip(self.layouts);
        groups.map(|(keys, layout)| keys.len().saturating_mul(layout.fields_of_hash())).sum()
    }

    /// Whether the server refused HGETALL and HMGET is used instead.
    pub(super) fn has_given_up_hgetall(&self) -> bool {
        self.has_given_up_hgetall
    }

    /// Uses HMGET from here on.
    pub(super) fn give_up_hgetall(&mut self) {
        self.has_given_up_hgetall = true;
        self.uses_hgetall.fill(false);
    }

    /// The name of the command at `position`.
    pub(super) fn command(&self, position: Position) -> &'static str {
        if self.uses_hgetall(position) { "HGETALL" } else { "HMGET" }
    }

    fn uses_hgetall(&self, position: Position) -> bool {
        self.uses_hgetall.get(position.group).copied().unwrap_or_default()
    }

    /// The Redis key at `position`, in the two parts that it consists of.
    pub(super) fn key(&self, position: Position) -> (&'a [u8], &'a [u8]) {
        let key = self.keys.get(position.group).map(|keys| keys.get(position.key));
        (key.unwrap_or_default(), self.project)
    }

    /// Appends the command that reads the key at `position`.
    pub(super) fn encode(&self, position: Position, commands: &mut CommandBuffer) {
        let Some(layout) = self.layouts.get(position.group) else { return };
        let (key, project) = self.key(position);
        if self.uses_hgetall(position) {
            commands.begin(2);
            commands.argument(b"HGETALL");
            commands.argument_of(key, project);
        } else {
            commands.begin(2 + layout.slots);
            commands.argument(b"HMGET");
            commands.argument_of(key, project);
            commands.encoded(&layout.fields);
        }
    }

    /// Gives the rows of the entity at `position` to the sink. `slots` is room that the caller
    /// keeps between keys; `node` is the server, for messages.
    pub(super) fn take<'r>(
        &self,
        position: Position,
        reply: Reply<'r>,
        slots: &mut Slots<'r>,
        sink: &mut dyn RowSink,
        node: &str,
    ) -> Result<Taken> {
        let index = position.group;
        let Some(layout) = self.layouts.get(index) else { return Ok(Taken::Row) };
        if let Some(text) = reply.error() {
            if self.uses_hgetall(position) && refusal::is_command_withheld(text) {
                return Ok(Taken::HgetallWithheld);
            }
            let refused = refusal::refused(node, self.command(position), text);
            return Err(refused.context(self.shown_key(position)));
        }
        fill(layout, self.uses_hgetall(position), reply, slots)
            .map_err(|error| error.context(self.shown_key(position)))?;
        if position.key.is_multiple_of(OFFER_EVERY)
            && self.uses_hgetall(position)
            && layout.rule.is_curious()
            && let Some(hash) = reply.strings()
        {
            layout.rule.learn(hash, slots);
        }
        for (view, place) in layout.views.iter().enumerate() {
            let timestamp = slots.get(place.timestamp).copied().flatten();
            let row = slots.get_mut(place.timestamp + 1..place.end).unwrap_or_default();
            let timestamp = match timestamp {
                Some(bytes) => Some(self.decode_timestamp(bytes, position, &place.name)?),
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

    fn decode_timestamp(&self, bytes: &[u8], position: Position, view: &str) -> Result<i64> {
        Timestamp::decode(bytes).and_then(Timestamp::to_micros).ok_or_else(|| {
            Error::new(
                ErrorKind::StoreInvalid,
                format!(
                    "{} has in its field '_ts:{view}' something that is no timestamp",
                    self.shown_key(position)
                ),
            )
        })
    }

    /// The key at `position`, for messages.
    #[cold]
    pub(super) fn shown_key(&self, position: Position) -> String {
        let (key, project) = self.key(position);
        format!("Redis key {}", refusal::shown(&[key, project].concat()))
    }
}

fn fill<'r>(
    layout: &ReadLayout,
    is_hgetall: bool,
    reply: Reply<'r>,
    slots: &mut Slots<'r>,
) -> Result<()> {
    slots.clear();
    let Some(strings) = reply.strings() else { return Err(unexpected(reply)) };
    if is_hgetall {
        slots.resize(layout.slots, None);
        if !layout.place(strings, slots) {
            return Err(unexpected(reply));
        }
    } else {
        slots.extend(strings);
        if slots.len() != layout.slots {
            return Err(unexpected(reply));
        }
    }
    Ok(())
}

#[cold]
fn unexpected(reply: Reply<'_>) -> Error {
    let elements = reply.array_len().unwrap_or_default();
    Error::new(ErrorKind::StoreInvalid, format!("the answer is no hash ({elements} elements)"))
}

/// The same memory for slices that live elsewhere: an empty vector has no lifetime to keep,
/// and `collect` of a vector's own iterator reuses the allocation.
pub(super) fn reuse<'a>(mut slots: Slots<'_>) -> Slots<'a> {
    slots.clear();
    slots.into_iter().map(|_| None).collect()
}
