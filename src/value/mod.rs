//! Feast's values in four forms: protobuf bytes (`wire`), typed columns (`column`), Arrow
//! (`arrow`) and JSON text (`json`). The fifth, Python objects, is made in `py::value`.
//!
//! Must not know stores, views or requests.

pub mod arrow;
mod cell;
pub mod column;
pub mod json;
pub mod packed;
pub mod text;
pub mod value_type;
pub mod wire;

pub use column::{Column, Layout};
pub use packed::PackedBytes;
pub use value_type::ValueType;
