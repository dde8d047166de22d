//! Replies read as rows: every value must be in the slot of its field. The plain way is a map
//! from field to value.

use std::collections::HashMap;

use super::super::codec::{CommandBuffer, ReplyParser};
use super::super::read_job::{ReadJob, Taken};
use super::super::read_layout::ReadLayout;
use super::super::timestamp::Timestamp;
use super::plain::{self, Tree};
use crate::config::ReadCommand;
use crate::error::{ErrorKind, Result};
use crate::store::{RowSink, StoredFeature, StoredGroup, StoredView};
use crate::value::PackedBytes;

/// Group, view, event timestamp and values, as the sink is given them.
#[derive(Debug, PartialEq)]
struct Row(usize, usize, Option<i64>, Vec<Option<Vec<u8>>>);

#[derive(Default)]
struct Rows(Vec<Row>);

impl RowSink for Rows {
    fn row(
        &mut self,
        group: usize,
        view: usize,
        event_timestamp: Option<i64>,
        values: &[Option<&[u8]>],
    ) -> Result<()> {
        let values = values.iter().map(|value| value.map(<[u8]>::to_vec)).collect();
        self.0.push(Row(group, view, event_timestamp, values));
        Ok(())
    }
}

/// Reads two groups of two keys each from the replies; `choice` says which groups, by which
/// commands.
pub(super) fn read(choice: u8, mut stream: &[u8], replies: &[(Tree, usize)]) {
    let groups = [group(choice & 3), group(choice >> 2 & 3)];
    let commands = [choice & 16 != 0, choice & 32 != 0]
        .map(|is_all| if is_all { ReadCommand::Hgetall } else { ReadCommand::Hmget });
    let layouts: Vec<ReadLayout> = groups
        .iter()
        .zip(commands)
        .map(|(group, command)| ReadLayout::new(group, command))
        .collect();
    let mut key = PackedBytes::default();
    key.push(b"\x02\x00key");
    key.push(b"");
    let keys = [key.clone(), key];
    let mut job = ReadJob::new(&layouts, &keys, b"project", choice & 64 == 0);

    let mut next = job.first();
    for (tree, length) in replies {
        let Some(position) = next else { break };
        let (bytes, rest) = stream.split_at(*length);
        stream = rest;
        let group = &groups[position.group];
        let is_hgetall = job.command(position) == "HGETALL";
        command_is_well_formed(&job, position, group, is_hgetall);

        let mut parser = ReplyParser::default();
        parser.advance(bytes).unwrap();
        let mut rows = Rows::default();
        let taken =
            job.take(position, parser.reply(bytes), &mut Vec::new(), &mut rows, "node:6379");
        match (taken, expected(position.group, group, is_hgetall, tree)) {
            (Ok(Taken::Row), Ok(expected)) => assert_eq!(rows.0, expected),
            (Ok(Taken::HgetallWithheld), Err(Refusal::Withheld)) => {
                job.give_up_hgetall();
                continue;
            }
            (Err(error), Err(Refusal::Invalid)) => {
                assert_eq!(error.kind(), ErrorKind::StoreInvalid);
                return;
            }
            (Err(_), Err(Refusal::Refused)) => return,
            (taken, expected) => {
                let taken = taken.map(|_| rows.0);
                panic!("{taken:?} is taken from {tree}, not {expected:?}");
            }
        }
        next = job.after(position);
    }
}

/// Groups with what may go wrong: fields that collide in the lookup, a field of zeros, views
/// that show the same fields twice, views without features, no views.
fn group(choice: u8) -> StoredGroup {
    let driver = view("driver", &[b"aaaa", b"qaaa", b"baaa"]);
    let views = match choice {
        0 => vec![driver],
        1 => {
            let again = view("driver", &[b"qaaa", b"aaaa"]);
            vec![driver, view("hub", &[b"caaa", b"\0\0\0\0"]), again]
        }
        2 => vec![view("driver", &[]), view("hub", &[b"aaab"])],
        _ => Vec::new(),
    };
    StoredGroup { views, expected_fields: 0 }
}

fn view(name: &str, fields: &[&[u8; 4]]) -> StoredView {
    let features = fields
        .iter()
        .map(|field| StoredFeature { name: field.escape_ascii().to_string(), field: **field })
        .collect();
    StoredView {
        ttl_micros: None,
        name: name.to_owned(),
        features,
        timestamp_field: format!("_ts:{name}").into_bytes(),
    }
}

#[derive(Debug)]
enum Refusal {
    Withheld,
    Refused,
    Invalid,
}

/// The rows that `tree` stands for, by way of a map.
fn expected(
    index: usize,
    group: &StoredGroup,
    is_hgetall: bool,
    tree: &Tree,
) -> std::result::Result<Vec<Row>, Refusal> {
    if let Tree::Error(text) = tree {
        let is_withheld = text.starts_with(b"NOPERM") || text.starts_with(b"ERR unknown command");
        return Err(if is_hgetall && is_withheld { Refusal::Withheld } else { Refusal::Refused });
    }
    let strings = tree.strings().ok_or(Refusal::Invalid)?;
    let fields = fields(group);
    let mut hash: HashMap<&[u8], Option<&[u8]>> = HashMap::new();
    if is_hgetall {
        for pair in strings.chunks(2) {
            let &[Some(field), Some(value)] = pair else { return Err(Refusal::Invalid) };
            hash.insert(field, Some(value));
        }
    }
    let mut answers = strings.iter();
    if !is_hgetall && strings.len() != fields.len() {
        return Err(Refusal::Invalid);
    }
    let mut value_of = |field: &[u8]| match is_hgetall {
        true => hash.get(field).copied().flatten(),
        false => answers.next().copied().flatten(),
    };
    let mut rows = Vec::new();
    for (place, view) in group.views.iter().enumerate() {
        let timestamp = value_of(&view.timestamp_field);
        let values: Vec<_> = view.features.iter().map(|f| value_of(&f.field)).collect();
        let micros = match timestamp {
            Some(bytes) => Some(
                Timestamp::decode(bytes).and_then(Timestamp::to_micros).ok_or(Refusal::Invalid)?,
            ),
            None => None,
        };
        let shown = |value: Option<&[u8]>| value.filter(|_| micros.is_some()).map(<[u8]>::to_vec);
        rows.push(Row(index, place, micros, values.into_iter().map(shown).collect()));
    }
    Ok(rows)
}

fn fields(group: &StoredGroup) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    for view in &group.views {
        fields.push(view.timestamp_field.as_slice());
        fields.extend(view.features.iter().map(|feature| feature.field.as_slice()));
    }
    fields
}

fn command_is_well_formed(
    job: &ReadJob<'_>,
    position: super::super::read_job::Position,
    group: &StoredGroup,
    is_hgetall: bool,
) {
    let mut commands = CommandBuffer::default();
    job.encode(position, &mut commands);
    let written = plain::stream(commands.bytes());
    let [(command, _)] = written.replies.as_slice() else {
        panic!("not one command: {}", commands.bytes().escape_ascii());
    };
    let arguments: Vec<&[u8]> = command.strings().unwrap().into_iter().flatten().collect();
    let (key, project) = job.key(position);
    assert_eq!(arguments[..2], [job.command(position).as_bytes(), &[key, project].concat()]);
    let fields = if is_hgetall { Vec::new() } else { fields(group) };
    assert_eq!(arguments[2..], fields);
}
