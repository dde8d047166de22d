//! Finds the row of the source that an error is about. Rows are cut, filtered and sharded
//! before they are converted, so the row numbers of a conversion mean nothing to a user.

use crate::error::{Error, ErrorKind, Result};
use crate::offline::SourceFiles;

/// The error with the file and row it is about, if `attempt` fails for one of `rows` by itself;
/// `rows` are numbers within the source, and `attempt` takes an index into them.
#[cold]
pub(super) fn name_row(
    error: Error,
    source: &SourceFiles,
    rows: &[u64],
    attempt: impl Fn(usize) -> Result<()>,
) -> Error {
    if error.kind() != ErrorKind::TypeMismatch {
        return error;
    }
    for (index, &row) in rows.iter().enumerate() {
        if let Err(error) = attempt(index) {
            return error.context(format_args!("{}, taken by itself", source.locate(row)));
        }
    }
    error
}
