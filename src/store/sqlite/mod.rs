//! Feast's SQLite store: one table for each feature view, one row for each entity and feature
//! (`feast/infra/online_stores/sqlite.py`).
//!
//! Must not know Arrow, types or requests: keys and values are bytes here.

mod connection;
mod reader;
mod refusal;
mod stored;
mod table;
mod value_text;
mod writer;

pub use stored::SqliteStore;
