//! Reads: one prepared statement for each view, one run of it for each entity, all in one
//! transaction so that the rows belong together.

use rusqlite::types::ValueRef;

use super::connection::Connection;
use super::{refusal, table};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{RowSink, StoredGroup, StoredView};
use crate::value::PackedBytes;

/// The caller is asked whether to go on after so many entities.
const KEYS_PER_CHECK: usize = 256;

pub(super) fn read(
    connection: &Connection,
    project: &str,
    groups: &[StoredGroup],
    keys: &[PackedBytes],
    sink: &mut dyn RowSink,
    call: &Call<'_>,
) -> Result<()> {
    call.check()?;
    connection.transaction("BEGIN", call, || {
        for (index, (group, keys)) in groups.iter().zip(keys).enumerate() {
            for (view, stored) in group.views.iter().enumerate() {
                let asked = Asked { view: stored, keys, place: Place { group: index, view } };
                read_view(connection, project, &asked, sink, call)?;
            }
        }
        Ok(())
    })
}

#[derive(Clone, Copy)]
struct Place {
    group: usize,
    view: usize,
}

struct Asked<'a> {
    view: &'a StoredView,
    keys: &'a PackedBytes,
    place: Place,
}

fn read_view(
    connection: &Connection,
    project: &str,
    asked: &Asked<'_>,
    sink: &mut dyn RowSink,
    call: &Call<'_>,
) -> Result<()> {
    let &Asked { view, keys, place } = asked;
    let refused =
        |source| refusal::refused_for_view(connection.path(), "SELECT", &view.name, source);
    let sql = format!(
        "SELECT feature_name, value, event_ts FROM {} WHERE entity_key = ?1",
        table::name(project, &view.name)
    );
    let mut statement = connection.prepare(&sql, call)?.map_err(refused)?;
    let mut row = Row::new(view);
    for (index, key) in keys.iter().enumerate() {
        if index % KEYS_PER_CHECK == 0 {
            call.check()?;
        }
        let found = connection.waiting(call, || row.load(&mut statement, key))?;
        found.map_err(refused)??;
        row.give(place, sink)?;
    }
    Ok(())
}

/// The row of one entity while it is put together.
struct Row<'a> {
    view: &'a StoredView,
    // Feature names in order, with their place in the view.
    names: Vec<(&'a [u8], usize)>,
    bytes: Vec<u8>,
    slots: Vec<Option<(usize, usize)>>,
    event_seconds: Option<i64>,
}

impl<'a> Row<'a> {
    fn new(view: &'a StoredView) -> Self {
        let mut names: Vec<_> = view
            .features
            .iter()
            .enumerate()
            .map(|(index, feature)| (feature.name.as_bytes(), index))
            .collect();
        names.sort_unstable();
        let slots = vec![None; view.features.len()];
        Row { view, names, bytes: Vec::new(), slots, event_seconds: None }
    }

    fn load(
        &mut self,
        statement: &mut rusqlite::CachedStatement<'_>,
        key: &[u8],
    ) -> rusqlite::Result<Result<()>> {
        self.bytes.clear();
        self.slots.fill(None);
        self.event_seconds = None;
        let mut rows = statement.query([key])?;
        // The primary key's index gives features by name: the next is probably the next.
        let mut likely = 0;
        while let Some(row) = rows.next()? {
            let (name, value, event_ts) = (row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?);
            if let Err(error) = self.add(name, value, event_ts, &mut likely) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn add(
        &mut self,
        name: ValueRef<'_>,
        value: ValueRef<'_>,
        event_ts: ValueRef<'_>,
        likely: &mut usize,
    ) -> Result<()> {
        let (ValueRef::Text(name), ValueRef::Integer(seconds)) = (name, event_ts) else {
            return Err(self.invalid("feature_name or event_ts", "a text and a whole number"));
        };
        // Feast takes the time of one of the rows; where they differ, the newest is the row's.
        self.event_seconds = self.event_seconds.max(Some(seconds));
        let Some(slot) = self.find(name, likely) else { return Ok(()) };
        let value = match value {
            ValueRef::Blob(value) => value,
            ValueRef::Null => &[],
            _ => return Err(self.invalid("value", "bytes")),
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some((start, self.bytes.len()));
        }
        Ok(())
    }

    fn find(&self, name: &[u8], likely: &mut usize) -> Option<usize> {
        let place = match self.names.get(*likely) {
            Some((candidate, _)) if *candidate == name => *likely,
            _ => self.names.binary_search_by_key(&name, |(name, _)| name).ok()?,
        };
        *likely = place + 1;
        self.names.get(place).map(|(_, slot)| *slot)
    }

    fn give(&self, place: Place, sink: &mut dyn RowSink) -> Result<()> {
        let micros = self.event_seconds.map(|seconds| {
            seconds
                .checked_mul(1_000_000)
                .ok_or_else(|| self.invalid("event_ts", "a time that fits in microseconds"))
        });
        let values: Vec<Option<&[u8]>> = self
            .slots
            .iter()
            .map(|slot| slot.and_then(|(start, end)| self.bytes.get(start..end)))
            .collect();
        sink.row(place.group, place.view, micros.transpose()?, &values)
    }

    #[cold]
    fn invalid(&self, column: &str, wanted: &str) -> Error {
        Error::new(
            ErrorKind::StoreInvalid,
            format!(
                "the table of view '{}' holds in {column} something else than {wanted}",
                self.view.name
            ),
        )
    }
}
