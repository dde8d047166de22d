//! Writes: a batch in one transaction that holds the write lock from its beginning, so that
//! nobody writes between the look at the stored timestamp and the write.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, ToSql};

use super::connection::Connection;
use super::{refusal, table, value_text};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{EqualTimestamps, WriteBatch, WriteReport};

/// The caller is asked whether to go on after so many rows.
const ROWS_PER_CHECK: usize = 64;

pub(super) fn write(
    connection: &Connection,
    project: &str,
    batch: &WriteBatch<'_>,
    equal: EqualTimestamps,
    call: &Call<'_>,
) -> Result<WriteReport> {
    call.check()?;
    batch.check_shape()?;
    connection.transaction("BEGIN IMMEDIATE", call, || {
        let view = &batch.view.name;
        let refused = |source| refusal::refused_for_view(connection.path(), "INSERT", view, source);
        let table = table::name(project, view);
        let newest = format!("SELECT max(event_ts) FROM {table} WHERE entity_key = ?1");
        let mut rows = Rows {
            batch,
            path: connection.path(),
            newest: connection.prepare(&newest, call)?.map_err(refused)?,
            upsert: connection.prepare(&upsert(&table), call)?.map_err(refused)?,
            text: String::new(),
        };
        let mut report = WriteReport::default();
        for row in 0..batch.keys.len() {
            if row % ROWS_PER_CHECK == 0 {
                call.check()?;
            }
            match rows.is_winner(row, equal)? {
                true => report.written += 1,
                false => {
                    report.older += 1;
                    continue;
                }
            }
            rows.write(row)?;
        }
        Ok(report)
    })
}

/// As Feast writes it: columns it does not name, such as vectors, stay as they are.
fn upsert(table: &str) -> String {
    format!(
        "INSERT INTO {table} (entity_key, feature_name, value, value_text, event_ts, created_ts) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(entity_key, feature_name) DO UPDATE SET \
         value = excluded.value, value_text = excluded.value_text, event_ts = excluded.event_ts, \
         created_ts = excluded.created_ts"
    )
}

struct Rows<'a> {
    batch: &'a WriteBatch<'a>,
    path: &'a Path,
    newest: CachedStatement<'a>,
    upsert: CachedStatement<'a>,
    text: String,
}

impl Rows<'_> {
    fn is_winner(&mut self, row: usize, equal: EqualTimestamps) -> Result<bool> {
        let key = self.batch.keys.get(row);
        let stored = self.newest.query_row([key], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Null => Ok(None),
                ValueRef::Integer(seconds) => Ok(Some(seconds)),
                _ => Err(()),
            })
        });
        let view = &self.batch.view.name;
        let stored = stored
            .map_err(|source| refusal::refused_for_view(self.path, "SELECT", view, source))?
            .map_err(|()| {
                Error::new(
                    ErrorKind::StoreInvalid,
                    format!("the table of view '{view}' holds an event_ts that is no whole number"),
                )
            })?;
        let new = seconds(self.batch.event_timestamps.get(row).copied().unwrap_or_default());
        Ok(stored.is_none_or(|stored| {
            new > stored || new == stored && equal == EqualTimestamps::Overwrite
        }))
    }

    fn write(&mut self, row: usize) -> Result<()> {
        let batch = self.batch;
        let event = seconds(batch.event_timestamps.get(row).copied().unwrap_or_default());
        let created = batch.created_timestamps.and_then(|created| created.get(row).copied());
        let created = created.flatten().map(seconds);
        for (feature, values) in batch.view.features.iter().zip(batch.values) {
            let value = values.get(row);
            let has_text = value_text::write(value, &mut self.text).map_err(|what| {
                Error::new(
                    ErrorKind::TypeMismatch,
                    format!("view '{}', feature '{}': {what}", batch.view.name, feature.name),
                )
            })?;
            let text = has_text.then_some(self.text.as_str());
            let parameters: [&dyn ToSql; 6] =
                [&batch.keys.get(row), &feature.name, &value, &text, &event, &created];
            self.upsert.execute(parameters.as_slice()).map_err(|source| {
                refusal::refused_for_view(self.path, "INSERT", &batch.view.name, source)
            })?;
        }
        Ok(())
    }
}

/// Whole seconds, cut toward the epoch as Python's `int()` does.
pub(super) fn seconds(micros: i64) -> i64 {
    micros / 1_000_000
}
