//! Serialized values to typed columns. Stub.
use super::{Column, ValueType};
use crate::error::Result;
/// Collects serialized values into one column.
#[derive(Debug)]
pub struct ColumnDecoder {
    value_type: ValueType,
}
/// What one serialized value was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /** A value. */
    Present,
    /** Stored as null. */
    Null,
}
impl ColumnDecoder {
    /// A decoder for `rows` rows of `value_type`.
    pub fn new(value_type: ValueType, rows: usize) -> Self {
        let _ = rows;
        ColumnDecoder { value_type }
    }
    /// Appends a row from a serialized `Value` (empty: null).
    pub fn push(&mut self, bytes: &[u8]) -> Result<Decoded> {
        let _ = bytes;
        todo!()
    }
    /// Appends a row that is not there.
    pub fn push_missing(&mut self) {
        todo!()
    }
    /// The column.
    pub fn finish(self) -> Result<Column> {
        let _ = self.value_type;
        todo!()
    }
}
