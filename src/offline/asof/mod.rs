//! The point-in-time join as pure kernels over Arrow memory: for each label (an entity row) the
//! newest feature row of its key that is not newer than the label.
//!
//! Labels are few compared with what a source may hold, so it is the labels that are kept:
//! [`KeyTable`] numbers their keys, [`Timeline`] has the times of each key in order, and a
//! [`Matcher`] takes feature rows in any order. A row matters only for the first label of its
//! key that is not older than the row, and there only if it is the newest such row; what later
//! labels see follows in the end. Memory follows the labels, never the source.
//!
//! Must not know files: rows come in as arrays, with their numbers.

mod keys;
mod matcher;
mod ranks;
mod timeline;

pub use keys::{KeyBounds, KeyForm, KeyTable, KeyValues, NO_KEY};
pub use matcher::{Created, FeatureRows, Matcher};
pub use ranks::Ranks;
pub use timeline::{NO_ROW, Timeline};
