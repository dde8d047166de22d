//! Columns to and from Python objects: exactly those that Feast gives
//! (`feast/type_map.py::feast_value_type_to_python_type`) and takes
//! (`feast/type_map.py::python_values_to_proto_values`).
//!
//! - `to_python`: columns to lists.
//! - `keys`: lists of entity-key values to columns.
//! - `infer`: the type of values that are not declared.
//! - `from_python`: any Python object as a value of a declared type.
//! - `objects`: lists of objects to Arrow arrays of a declared type.
//! - `codec`: the codecs one by one, for Python.

mod codec;
mod from_python;
mod infer;
mod keys;
mod objects;
mod to_python;

pub use codec::register;
pub use keys::{list_to_column, list_to_shown, plain_integers};
pub use objects::{Values, list_to_times, list_to_values};
pub use to_python::{column_to_list, stored_to_object, to_list};
