//! Wide rows of entities that exist: their hash is read whole and put back whole, in Redis's
//! own serialized form, with this view's fields replaced and all others carried over. The
//! server looks for each field of an HSET in the whole hash, one after the other; here it
//! copies a block. What can't go this way goes field by field; a refusal costs time, never data.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use super::codec::{CommandBuffer, Reply, append_argument};
use super::fresh::{MIN_BATCH_ROWS, are_fields_distinct};
use super::learned::Learned;
use super::serialized::{Form, fits_listpack, serialize_hash};
use super::timestamp::{self, Timestamp};
use super::writer::WriterSettings;
use crate::store::WriteBatch;

/// Fewer fields are written as cheaply one by one.
const MIN_FIELDS: usize = 16;

type Pair<'r> = (&'r [u8], &'r [u8]);

/// What a store has learned about replacing whole hashes.
#[derive(Default)]
pub(super) struct LearnedReplace {
    // Most rows of the last chunk were newer than what was stored, and fitted.
    pays: AtomicBool,
    is_refused: AtomicBool,
}

impl LearnedReplace {
    /// Takes what became of a chunk of so many rows.
    pub(super) fn learn(&self, rows: usize, replaceable: usize) {
        self.pays.store(2 * replaceable > rows, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}

/// The way of wide rows, for one batch.
pub(super) struct Replace<'a> {
    learned: &'a Learned,
    batch: &'a WriteBatch<'a>,
    is_wide: bool,
    // Where a field stands among those of a row: the timestamp, then the features.
    places: HashMap<&'a [u8], usize>,
    // The argument TTL of RESTORE, encoded; `None`: what is left of the key's own.
    ttl: Option<Vec<u8>>,
    // Memory for payloads.
    spare: Vec<u8>,
}

impl<'a> Replace<'a> {
    pub(super) fn new(
        learned: &'a Learned,
        batch: &'a WriteBatch<'a>,
        settings: &WriterSettings,
    ) -> Self {
        let view = batch.view;
        // A hash that is put back whole has lost the times of its fields, other views' among them.
        let is_wide = !settings.field_ttl
            && view.features.len() >= MIN_FIELDS
            && batch.keys.len() >= MIN_BATCH_ROWS
            && are_fields_distinct(batch);
        let fields = view.features.iter().map(|feature| &feature.field[..]);
        let fields = std::iter::once(&view.timestamp_field[..]).chain(fields);
        let places = match is_wide {
            true => fields.enumerate().map(|(place, field)| (field, place)).collect(),
            false => HashMap::new(),
        };
        let ttl = settings.key_ttl_seconds.map(|seconds| {
            let mut encoded = Vec::new();
            append_argument(&mut encoded, seconds.saturating_mul(1000).to_string().as_bytes());
            encoded
        });
        Replace { learned, batch, is_wide, places, ttl, spare: Vec::new() }
    }

    /// Whether the next chunk shall be read whole.
    pub(super) fn is_on(&self) -> bool {
        self.is_wide
            && self.learned.replace.pays.load(Ordering::Relaxed)
            && !self.learned.replace.is_refused.load(Ordering::Relaxed)
            && !self.learned.are_listpacks_refused()
    }

    /// Whether a row of this batch would go this way.
    pub(super) fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// The timestamp in a reply to HGETALL, as it was stored.
    pub(super) fn stored_timestamp<'r>(&self, hash: &Reply<'r>) -> Option<&'r [u8]> {
        let name = &self.batch.view.timestamp_field[..];
        pairs(hash)?.flatten().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Encodes the command that puts `row` into the hash that was found, which has
    /// `milliseconds` left to live. `false`: that can't be done, and nothing was encoded.
    pub(super) fn encode(
        &mut self,
        commands: &mut CommandBuffer,
        key: (&[u8], &[u8]),
        row: usize,
        timestamp: Timestamp,
        hash: &Reply<'_>,
        milliseconds: Option<u64>,
    ) -> bool {
        let mut payload = mem::take(&mut self.spare);
        let is_serialized = self.serialize(row, timestamp, hash, &mut payload);
        if is_serialized {
            commands.begin(5);
            commands.argument(b"RESTORE");
            commands.argument_of(key.0, key.1);
            match &self.ttl {
                Some(ttl) => commands.encoded(ttl),
                // 0 is for ever.
                None => commands.argument(milliseconds.unwrap_or(0).to_string().as_bytes()),
            }
            commands.argument(&payload);
            commands.argument(b"REPLACE");
        }
        self.spare = payload;
        is_serialized
    }

    fn serialize(
        &self,
        row: usize,
        timestamp: Timestamp,
        hash: &Reply<'_>,
        payload: &mut Vec<u8>,
    ) -> bool {
        let mut time = Vec::with_capacity(timestamp::MAX_LEN);
        timestamp.encode(&mut time);
        let merged = self.merged(row, &time, hash);
        let Some(merged) = merged.filter(|merged| fits_listpack(merged.iter().copied())) else {
            return false;
        };
        serialize_hash(Form::Listpack, merged.into_iter(), payload);
        true
    }

    /// The fields that were found, this row's in place of older ones, and those that are new.
    /// `None`: what was found is no list of pairs.
    fn merged<'r>(&'r self, row: usize, time: &'r [u8], hash: &Reply<'r>) -> Option<Vec<Pair<'r>>> {
        let view = self.batch.view;
        let features = view.features.iter().zip(self.batch.values);
        let features = features.map(|(feature, values)| (&feature.field[..], values.get(row)));
        let own: Vec<_> =
            std::iter::once((&view.timestamp_field[..], time)).chain(features).collect();
        let mut is_there = vec![false; own.len()];
        let mut merged = Vec::with_capacity(own.len());
        // What one HSET wrote comes in its order: the next is probably the next.
        let mut likely = 0;
        for pair in pairs(hash)? {
            let (field, value) = pair?;
            let place = match own.get(likely) {
                Some((next, _)) if *next == field => Some(likely),
                _ => self.places.get(field).copied(),
            };
            match place.and_then(|place| Some((place, own.get(place)?, is_there.get_mut(place)?))) {
                Some((place, replaced, is_there)) => {
                    merged.push(*replaced);
                    *is_there = true;
                    likely = place + 1;
                }
                None => merged.push((field, value)),
            }
        }
        let is_new = own.into_iter().zip(is_there).filter(|(_, is_there)| !is_there);
        merged.extend(is_new.map(|(pair, _)| pair));
        Some(merged)
    }
}

/// Fields and values of a reply to HGETALL, `None` in place of what is no pair of strings. No
/// iterator: the reply is no list of strings.
fn pairs<'r>(hash: &Reply<'r>) -> Option<impl Iterator<Item = Option<Pair<'r>>>> {
    let mut strings = hash.strings()?;
    Some(std::iter::from_fn(move || {
        let field = strings.next()?;
        let value = strings.next().flatten();
        Some(field.zip(value))
    }))
}
