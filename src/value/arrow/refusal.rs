//! Why an array can't become values of a type, before it is known which column it is.

use arrow_array::Array;
use arrow_cast::display::array_value_to_string;

use crate::error::{Error, ErrorKind};
use crate::value::ValueType;

/// The reason why a conversion was refused.
#[derive(Debug)]
pub(super) enum Refused {
    /// No value of this Arrow type can be one of the value type.
    Type,
    /// This row can't, because.
    Row(usize, String),
    /// A promise of the Arrow kernels was not kept.
    Kernel(arrow_schema::ArrowError),
}

impl From<arrow_schema::ArrowError> for Refused {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Refused::Kernel(error)
    }
}

impl Refused {
    #[cold]
    pub(super) fn row(row: usize, why: impl Into<String>) -> Self {
        Refused::Row(row, why.into())
    }

    #[cold]
    pub(super) fn into_error(
        self,
        column: &str,
        value_type: ValueType,
        array: &dyn Array,
    ) -> Error {
        let (declared, found) = (value_type.name(), array.data_type());
        let message = match &self {
            Refused::Type | Refused::Kernel(_) => {
                format!("column '{column}' of Arrow type {found} can't be read as {declared}")
            }
            Refused::Row(row, why) => format!(
                "column '{column}', row {row}: {} of Arrow type {found} can't be read as \
                 {declared}: {why}",
                shown(array, *row)
            ),
        };
        let error = Error::new(ErrorKind::TypeMismatch, message);
        match self {
            Refused::Kernel(source) => error.with_source(source),
            _ => error,
        }
    }
}

/// The value of a row for a message, not longer than a line.
fn shown(array: &dyn Array, row: usize) -> String {
    let Ok(text) = array_value_to_string(array, row) else { return "a value".to_owned() };
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
