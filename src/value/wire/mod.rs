//! `feast.types.Value` on the wire, by hand: a serialized value is a few bytes, and millions of
//! them go through here.
//!
//! The number of a case of the oneof is the number of its [`ValueType`](super::ValueType).
//! - [`ColumnDecoder`] (`decode`, `sink`): serialized values straight into a typed column.
//! - [`PlainDecoder`] (`plain`): numbers that stand as every writer writes them.
//! - [`Value`] (`value`, `parse`, `encode`): one value as a tree, for what is not a plain column.
//! - `reader`, `writer`: protobuf's tags, varints and lengths.

mod decode;
pub(super) mod encode;
mod parse;
mod plain;
pub(crate) mod reader;
mod sink;
mod value;
pub(crate) mod writer;

pub use decode::{ColumnDecoder, Decoded};
pub use plain::{PlainDecoder, PlainValues};
pub use value::{Entries, Value};

/// The timestamp that means "no timestamp": NumPy's NaT, as Feast stores it.
pub const NOT_A_TIME: i64 = i64::MIN;
