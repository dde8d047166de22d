//! Deletion: SCAN gives the keys of one server, those of this project's entities are told by
//! taking them apart, and their fields (or they) are removed. In steps that are small for the
//! server, whatever there is; begun anew, it finds what is left.

use super::codec::{CommandBuffer, Reply};
use super::connection::Connection;
use super::refusal;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{DeletedView, Scope};

/// About how many keys the server looks at in one step.
const SCAN_COUNT: &[u8] = b"500";
/// Keys whose fields are asked for in one step.
const KEYS_PER_STEP: usize = 100;
const TIMESTAMP_PREFIX: &[u8] = b"_ts:";

/// What is to be deleted, and how far that is.
pub(super) struct Deleter<'a> {
    views: &'a [DeletedView],
    scope: Scope,
    project: &'a [u8],
    pattern: Vec<u8>,
    deleted: u64,
    // The node is to be told that it has keys of slots that are still another's.
    is_asking: bool,
    is_disturbed: bool,
}

impl<'a> Deleter<'a> {
    pub(super) fn new(views: &'a [DeletedView], scope: Scope, project: &'a [u8]) -> Self {
        let pattern = pattern(views, project);
        Deleter {
            views,
            scope,
            project,
            pattern,
            deleted: 0,
            is_asking: false,
            is_disturbed: false,
        }
    }

    /// How many entities had something to be deleted.
    pub(super) fn deleted(&self) -> u64 {
        self.deleted
    }

    /// Whether the next server may have keys of slots that are on their way to it.
    pub(super) fn set_asking(&mut self, is_asking: bool) {
        self.is_asking = is_asking;
    }

    /// Whether a key was elsewhere since the last call: slots are on the move.
    pub(super) fn take_disturbed(&mut self) -> bool {
        std::mem::take(&mut self.is_disturbed)
    }

    /// Deletes what one server has.
    pub(super) fn run(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        let mut cursor = b"0".to_vec();
        loop {
            call.check()?;
            connection.set_doing("SCAN");
            let scan: [&[u8]; 6] =
                [b"SCAN", &cursor, b"MATCH", &self.pattern, b"COUNT", SCAN_COUNT];
            connection.commands().command(&scan);
            connection.send(call)?;
            let node = connection.node().clone();
            let reply = connection.receive(call)?;
            if let Some(text) = reply.error() {
                return Err(refusal::refused(&node, "SCAN", text));
            }
            let Some((next, found)) = self.parse(reply) else {
                return Err(no_scan(&node));
            };
            match self.scope {
                Scope::Entities => self.unlink(&found, connection, call)?,
                Scope::Rows => {
                    for keys in found.chunks(KEYS_PER_STEP) {
                        self.remove_fields(keys, connection, call)?;
                    }
                }
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// The next cursor, and of the keys those of this project's entities.
    fn parse(&self, reply: Reply<'_>) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        let mut parts = reply.elements();
        let (cursor, keys) = (parts.next()?, parts.next()?);
        let cursor = cursor.text()?.to_vec();
        keys.array_len()?;
        let keys = keys.elements().filter_map(|key| key.text());
        let own = keys.filter(|key| self.views.iter().any(|view| self.is_of(view, key)));
        Some((cursor, own.map(<[u8]>::to_vec).collect()))
    }

    fn is_of(&self, view: &DeletedView, key: &[u8]) -> bool {
        view.keys.strip(key) == Some(self.project)
    }

    /// Removes whole keys; the server frees their memory in the background.
    fn unlink(
        &mut self,
        keys: &[Vec<u8>],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        connection.set_doing("UNLINK");
        for key in keys {
            self.ask(connection.commands());
            connection.commands().command(&[b"UNLINK", key]);
        }
        self.count_removed(keys.len(), "UNLINK", connection, call)
    }

    /// Removes the views' fields of hashes. Where no other view has a row, all fields go that
    /// were seen, those of features that are no more included; what others write meanwhile stays,
    /// which it would not if the key were removed.
    fn remove_fields(
        &mut self,
        keys: &[Vec<u8>],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        connection.set_doing("HKEYS, HDEL");
        for key in keys {
            self.ask(connection.commands());
            connection.commands().command(&[b"HKEYS", key]);
        }
        connection.send(call)?;
        let node = connection.node().clone();
        let (mut removals, mut count) = (CommandBuffer::default(), 0);
        for key in keys {
            self.receive_asked(connection, call)?;
            let reply = connection.receive(call)?;
            match (reply.error(), reply.strings()) {
                // Not a hash: not of Feast's.
                (Some(text), _) if text.starts_with(b"WRONGTYPE") => {}
                (Some(text), _) => self.note(&node, "HKEYS", text)?,
                (None, Some(fields)) => {
                    let fields: Vec<&[u8]> = fields.flatten().collect();
                    let gone = self.gone(key, &fields);
                    if !gone.is_empty() {
                        count += 1;
                        self.ask(&mut removals);
                        removals.begin(2 + gone.len());
                        removals.argument(b"HDEL");
                        removals.argument(key);
                        gone.iter().for_each(|field| removals.argument(field));
                    }
                }
                (None, None) => return Err(no_scan(&node)),
            }
        }
        if count == 0 {
            return Ok(());
        }
        connection.commands().append(&removals);
        self.count_removed(count, "HDEL", connection, call)
    }

    /// The fields to remove from the hash at `key`, which has `fields`.
    fn gone<'f>(&self, key: &[u8], fields: &[&'f [u8]]) -> Vec<&'f [u8]> {
        let has = |view: &&DeletedView| {
            self.is_of(view, key) && fields.contains(&view.stored.timestamp_field.as_slice())
        };
        let views: Vec<&DeletedView> = self.views.iter().filter(has).collect();
        let is_time =
            |field: &[u8]| views.iter().any(|view| view.stored.timestamp_field.as_slice() == field);
        let mut times = fields.iter().filter(|field| field.starts_with(TIMESTAMP_PREFIX));
        if views.is_empty() {
            return Vec::new();
        }
        if times.all(|field| is_time(field)) {
            return fields.to_vec();
        }
        let is_value = |field: &[u8]| {
            let mut features = views.iter().flat_map(|view| &view.stored.features);
            features.any(|feature| feature.field.as_slice() == field)
        };
        fields.iter().copied().filter(|field| is_time(field) || is_value(field)).collect()
    }

    fn count_removed(
        &mut self,
        commands: usize,
        command: &str,
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        connection.send(call)?;
        let node = connection.node().clone();
        for _ in 0..commands {
            self.receive_asked(connection, call)?;
            let reply = connection.receive(call)?;
            match reply.error() {
                Some(text) => self.note(&node, command, text)?,
                None => self.deleted += u64::from(reply.integer().is_some_and(|count| count > 0)),
            }
        }
        Ok(())
    }

    fn ask(&self, commands: &mut CommandBuffer) {
        if self.is_asking {
            commands.command(&[b"ASKING"]);
        }
    }

    /// Takes the answer to what [`ask`](Self::ask) encoded.
    fn receive_asked(&self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        if self.is_asking {
            let node = connection.node().clone();
            if let Some(text) = connection.receive(call)?.error() {
                return Err(refusal::refused(&node, "ASKING", text));
            }
        }
        Ok(())
    }

    fn note(&mut self, node: &str, command: &str, text: &[u8]) -> Result<()> {
        let is_elsewhere = [&b"MOVED "[..], b"ASK ", b"TRYAGAIN"];
        match is_elsewhere.iter().any(|word| text.starts_with(word)) {
            true => self.is_disturbed = true,
            false => return Err(refusal::refused(node, command, text)),
        }
        Ok(())
    }
}

/// A glob that all keys to be deleted match, with everything in it escaped that has a meaning:
/// only so that the server sends few others.
fn pattern(views: &[DeletedView], project: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::new();
    if let [first, rest @ ..] = views
        && rest.iter().all(|view| view.keys == first.keys)
    {
        escape(first.keys.prefix(), &mut pattern);
    }
    pattern.push(b'*');
    escape(project, &mut pattern);
    pattern
}

fn escape(text: &[u8], pattern: &mut Vec<u8>) {
    for &byte in text {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'^' | b'-' | b'\\') {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
}

#[cold]
fn no_scan(node: &str) -> Error {
    Error::new(
        ErrorKind::StoreInvalid,
        format!("{node} answered SCAN or HKEYS with something that is no such list"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyShape, KeyVersion};
    use crate::store::{StoredFeature, StoredView};

    fn view(name: &str, field: u8) -> DeletedView {
        DeletedView {
            stored: StoredView {
                ttl_micros: None,
                name: name.to_owned(),
                features: vec![StoredFeature { name: "f".to_owned(), field: [field; 4] }],
                timestamp_field: format!("_ts:{name}").into_bytes(),
            },
            keys: KeyShape::new(KeyVersion::V2, ["k"]),
        }
    }

    #[test]
    fn what_has_a_meaning_in_a_glob_is_escaped() {
        let of_one = pattern(&[view("v", 1)], b"p*[q]");
        assert_eq!(of_one, b"\x02\0\0\0k*p\\*\\[q\\]");
    }

    #[test]
    fn other_views_keep_their_fields_and_dead_ones_go_with_the_last_view() {
        let views = [view("v", 1)];
        let deleter = Deleter::new(&views, Scope::Rows, b"p");
        let key = b"\x02\0\0\0k\x04\0\0\0\x08\0\0\0\x01\0\0\0\0\0\0\0p";
        let (own, other, dead): (&[u8], &[u8], &[u8]) = (&[1; 4], &[2; 4], &[9; 4]);
        let shared: [&[u8]; 5] = [own, other, dead, b"_ts:v", b"_ts:w"];
        assert_eq!(deleter.gone(key, &shared), [own, b"_ts:v"]);
        let alone: [&[u8]; 3] = [own, dead, b"_ts:v"];
        assert_eq!(deleter.gone(key, &alone), alone);
        assert!(deleter.gone(key, &[other, b"_ts:w"]).is_empty());
        assert!(deleter.gone(b"\x02\0\0\0kp", &shared).is_empty(), "no entity key");
    }
}
