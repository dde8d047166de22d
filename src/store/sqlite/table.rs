//! The table of a view: its name, and how Feast makes it
//! (`feast/infra/online_stores/sqlite.py::update`).

use super::connection::Connection;
use super::refusal;
use crate::call::Call;
use crate::error::Result;
use crate::store::{DeletedView, StoredView};

/// The table of `view`, quoted for SQL.
pub(super) fn name(project: &str, view: &str) -> String {
    quoted(&format!("{project}_{view}"))
}

/// Makes the tables that are not there, with index and columns.
pub(super) fn create(
    connection: &Connection,
    project: &str,
    views: &[StoredView],
    call: &Call<'_>,
) -> Result<()> {
    // Looked at first: the write lock is only taken where something is to be made.
    let mut missing = Vec::new();
    for view in views {
        if !is_complete(connection, project, view, call)? {
            missing.push(view);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    connection.transaction("BEGIN IMMEDIATE", call, || {
        missing.iter().try_for_each(|view| {
            create_one(connection, project, view, call)
                .map_err(|error| error.context(format_args!("view '{}'", view.name)))
        })
    })
}

/// Drops the tables of `views`; gives how many were there.
pub(super) fn drop_all(
    connection: &Connection,
    project: &str,
    views: &[DeletedView],
    call: &Call<'_>,
) -> Result<u64> {
    connection.transaction("BEGIN IMMEDIATE", call, || {
        let mut dropped = 0;
        for view in views {
            call.check()?;
            let name = &view.stored.name;
            if has_column(connection, project, name, "entity_key", call)? {
                connection.execute(&format!("DROP TABLE {}", self::name(project, name)), call)?;
                dropped += 1;
            }
        }
        Ok(dropped)
    })
}

fn create_one(
    connection: &Connection,
    project: &str,
    view: &StoredView,
    call: &Call<'_>,
) -> Result<()> {
    let table = name(project, &view.name);
    let index = quoted(&format!("{project}_{}_ek", view.name));
    connection.execute(
        &format!(
            "CREATE TABLE IF NOT EXISTS {table} (entity_key BLOB, feature_name TEXT, value BLOB, \
             value_text TEXT,  vector_value BLOB, event_ts timestamp, created_ts timestamp,  \
             PRIMARY KEY(entity_key, feature_name))"
        ),
        call,
    )?;
    connection
        .execute(&format!("CREATE INDEX IF NOT EXISTS {index} ON {table} (entity_key)"), call)?;
    if is_complete(connection, project, view, call)? {
        return Ok(());
    }
    // A table that an older Feast made.
    connection.execute(&format!("ALTER TABLE {table} ADD COLUMN \"value_text\" TEXT"), call)
}

/// Whether the table is there, with the column that older versions of Feast did not have.
fn is_complete(
    connection: &Connection,
    project: &str,
    view: &StoredView,
    call: &Call<'_>,
) -> Result<bool> {
    has_column(connection, project, &view.name, "value_text", call)
}

fn has_column(
    connection: &Connection,
    project: &str,
    view: &str,
    column: &str,
    call: &Call<'_>,
) -> Result<bool> {
    let refused = |source| refusal::refused_for_view(connection.path(), "SELECT", view, source);
    let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
    let mut statement = connection.prepare(sql, call)?.map_err(refused)?;
    let table = format!("{project}_{view}");
    let count = connection
        .waiting(call, || {
            statement.query_row([table.as_str(), column], |row| row.get::<_, i64>(0))
        })?
        .map_err(refused)?;
    Ok(count > 0)
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(name("p", "v"), "\"p_v\"");
        assert_eq!(name("p", "a\"b"), "\"p_a\"\"b\"");
    }
}
