//! SQLite's errors as errors of ours, each with the file that it is about.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::{Error, ErrorKind};

/// The error for `source`, which SQLite gave when asked to `action`.
#[cold]
pub(super) fn refused(path: &Path, action: &str, source: rusqlite::Error) -> Error {
    let path = path.display();
    let (kind, message) = match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => (
            ErrorKind::StoreInvalid,
            format!(
                "'{path}' is no sound SQLite database; restore it, or remove it and materialize"
            ),
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::StoreTimeout, format!("the SQLite online store '{path}' is locked"))
        }
        Some(ErrorCode::CannotOpen) => {
            (ErrorKind::StoreUnavailable, format!("can't open the SQLite online store '{path}'"))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (ErrorKind::StoreDenied, format!("may not write the SQLite online store '{path}'"))
        }
        _ => {
            (ErrorKind::StoreRefused, format!("the SQLite online store '{path}' refused {action}"))
        }
    };
    Error::new(kind, message).with_source(source)
}

/// The error for a statement about the table of `view`.
#[cold]
pub(super) fn refused_for_view(
    path: &Path,
    action: &str,
    view: &str,
    source: rusqlite::Error,
) -> Error {
    if source.to_string().contains("no such table") {
        return Error::new(
            ErrorKind::StoreRefused,
            format!(
                "the SQLite online store '{}' has no table for view '{view}'; materialize it \
                 first, or run `feast apply`",
                path.display()
            ),
        )
        .with_source(source);
    }
    refused(path, action, source).context(format_args!("view '{view}'"))
}
