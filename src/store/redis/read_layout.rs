//! How one group is read: which command, which fields, and where in a row each reply field
//! goes. Pure: made once for a reader, then used for every key.

use super::codec::append_argument;
use super::read_rule::ReadRule;
use crate::config::ReadCommand;
use crate::store::{StoredGroup, StoredView};

/// The row of an entity is one slice of slots: for each view its timestamp, then its features.
pub(super) struct ReadLayout {
    /// Which command reads it.
    pub(super) rule: ReadRule,
    /// For each view, the slot of its timestamp; its features follow, up to the next view's.
    pub(super) views: Vec<ViewSlots>,
    pub(super) slots: usize,
    /// The arguments of HMGET after the key, encoded.
    pub(super) fields: Vec<u8>,
    lookup: FieldLookup,
    // Slots that show the same field as an earlier one: (from, to).
    copies: Vec<(usize, usize)>,
}

/// Where the row of a view lies among the slots.
pub(super) struct ViewSlots {
    /// The view's name, for messages.
    pub(super) name: String,
    pub(super) timestamp: usize,
    pub(super) end: usize,
}

impl ReadLayout {
    pub(super) fn new(group: &StoredGroup, command: ReadCommand) -> Self {
        let (mut views, mut fields, mut slot) = (Vec::new(), Vec::new(), 0);
        for view in &group.views {
            append_argument(&mut fields, &view.timestamp_field);
            for feature in &view.features {
                append_argument(&mut fields, &feature.field);
            }
            let end = slot + 1 + view.features.len();
            views.push(ViewSlots { name: view.name.clone(), timestamp: slot, end });
            slot = end;
        }
        let (lookup, copies) = FieldLookup::new(&group.views, slot);
        let rule = ReadRule::new(command, slot, group.expected_fields);
        ReadLayout { rule, views, slots: slot, fields, lookup, copies }
    }

    /// How many fields the hash of an entity has, as far as is known.
    pub(super) fn fields_of_hash(&self) -> usize {
        self.rule.fields().max(self.slots)
    }

    /// Puts each field of an HGETALL reply where it belongs; `false` when the reply is none.
    pub(super) fn place<'a>(
        &self,
        mut reply: impl Iterator<Item = Option<&'a [u8]>>,
        slots: &mut [Option<&'a [u8]>],
    ) -> bool {
        while let Some(field) = reply.next() {
            let (Some(field), Some(Some(value))) = (field, reply.next()) else { return false };
            let slot = self.lookup.find(field).and_then(|slot| slots.get_mut(slot));
            if let Some(slot) = slot {
                *slot = Some(value);
            }
        }
        for &(from, to) in &self.copies {
            let value = slots.get(from).copied().flatten();
            if let Some(slot) = slots.get_mut(to) {
                *slot = value;
            }
        }
        true
    }
}

/// From a field of the hash to its slot. Feature fields are hashes already, so a table that is
/// indexed by their low bits and probed onwards needs no hashing of its own.
struct FieldLookup {
    // A power of two of entries, half of them free: (field, slot + 1), 0 for free.
    table: Vec<(u32, u32)>,
    timestamps: Vec<(Vec<u8>, usize)>,
}

impl FieldLookup {
    fn new(views: &[StoredView], slots: usize) -> (Self, Vec<(usize, usize)>) {
        let table = vec![(0, 0); (slots * 2).next_power_of_two().max(2)];
        let mut lookup = FieldLookup { table, timestamps: Vec::new() };
        let (mut copies, mut slot) = (Vec::new(), 0);
        for view in views {
            match lookup.timestamp(&view.timestamp_field) {
                Some(first) => copies.push((first, slot)),
                None => lookup.timestamps.push((view.timestamp_field.clone(), slot)),
            }
            slot += 1;
            for feature in &view.features {
                if let Some(first) = lookup.insert(u32::from_le_bytes(feature.field), slot) {
                    copies.push((first, slot));
                }
                slot += 1;
            }
        }
        (lookup, copies)
    }

    #[inline]
    fn find(&self, field: &[u8]) -> Option<usize> {
        match <[u8; 4]>::try_from(field) {
            Ok(field) => self.feature(u32::from_le_bytes(field)),
            Err(_) => self.timestamp(field),
        }
    }

    #[inline]
    fn feature(&self, field: u32) -> Option<usize> {
        let mask = self.table.len() - 1;
        let mut at = field as usize & mask;
        loop {
            let &(candidate, slot) = self.table.get(at)?;
            if slot == 0 {
                return None;
            }
            if candidate == field {
                return Some(slot as usize - 1);
            }
            at = (at + 1) & mask;
        }
    }

    fn timestamp(&self, field: &[u8]) -> Option<usize> {
        self.timestamps.iter().find(|(name, _)| name == field).map(|(_, slot)| *slot)
    }

    /// The slot that the field has already, or `None` and it gets this one.
    fn insert(&mut self, field: u32, slot: usize) -> Option<usize> {
        if let Some(first) = self.feature(field) {
            return Some(first);
        }
        let mask = self.table.len() - 1;
        let mut at = field as usize & mask;
        while self.table.get(at).is_some_and(|(_, slot)| *slot != 0) {
            at = (at + 1) & mask;
        }
        if let Some(entry) = self.table.get_mut(at) {
            *entry = (field, slot as u32 + 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoredFeature;

    fn view(name: &str, fields: &[u32]) -> StoredView {
        StoredView {
            ttl_micros: None,
            name: name.to_owned(),
            features: fields
                .iter()
                .map(|field| StoredFeature {
                    name: format!("f{field}"),
                    field: field.to_le_bytes(),
                })
                .collect(),
            timestamp_field: format!("_ts:{name}").into_bytes(),
        }
    }

    fn layout(views: &[StoredView], expected_fields: usize, command: ReadCommand) -> ReadLayout {
        ReadLayout::new(&StoredGroup { views: views.to_vec(), expected_fields }, command)
    }

    #[test]
    fn each_field_finds_its_slot_whatever_the_order() {
        // 8 and 16 share the low bits; the second view asks for a field of the first again.
        let views = [view("a", &[8, 16, 3]), view("b", &[5]), view("a", &[3])];
        let layout = layout(&views, 0, ReadCommand::Auto);
        let ts = b"_ts:a".as_slice();
        let (three, sixteen) = (3u32.to_le_bytes(), 16u32.to_le_bytes());
        let (strange, other) = (99u32.to_le_bytes(), b"_ts:other".as_slice());
        let reply = [&three[..], b"3", other, b"x", ts, b"now", &sixteen, b"16", &strange, b"y"];

        let mut slots = vec![None; layout.slots];
        assert!(layout.place(reply.iter().map(|text| Some(*text)), &mut slots));

        let shown: Vec<_> = slots.iter().map(|slot| slot.map(|text| text.to_vec())).collect();
        let some = |text: &[u8]| Some(text.to_vec());
        assert_eq!(
            shown,
            [some(b"now"), None, some(b"16"), some(b"3"), None, None, some(b"now"), some(b"3")]
        );
    }

    #[test]
    fn a_reply_of_odd_length_is_refused() {
        let layout = layout(&[view("a", &[1])], 2, ReadCommand::Auto);
        let mut slots = vec![None; layout.slots];

        assert!(!layout.place([Some(&b"_ts:a"[..])].into_iter(), &mut slots));
        assert!(!layout.place([Some(&b"_ts:a"[..]), None].into_iter(), &mut slots));
    }
}
