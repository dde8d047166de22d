//! Feast's Redis store: one hash for each entity, a field for each feature, a field for the
//! event timestamp of each view (`feast/infra/online_stores/redis.py`).
//!
//! Must not know Arrow, types or requests: keys and values are bytes here.

mod asynchronous;
mod busy_poll;
mod cluster;
mod codec;
mod connection;
mod copy;
mod delete;
mod fresh;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handshake;
mod kept;
mod learned;
mod low_water;
mod options;
mod pool;
mod primary;
mod read_job;
mod read_layout;
mod read_rule;
mod reader;
mod refusal;
mod replace;
mod retry;
mod script;
mod sentinel;
mod serialized;
mod stored;
mod stream;
mod timestamp;
mod tls;
mod transaction;
mod writer;

pub use stored::RedisStore;
