//! Feast's Redis store: one hash for each entity, a field for each feature, a field for the
//! event timestamp of each view (`feast/infra/online_stores/redis.py`).
//!
//! Must not know Arrow, types or requests: keys and values are bytes here.

#[allow(dead_code, unused_imports, reason = "the drivers that use all of it come next")]
mod cluster;
mod codec;
mod connection;
mod fresh;
mod handshake;
#[allow(dead_code, reason = "the drivers that use all of it come next")]
mod options;
mod pool;
mod read_job;
mod read_layout;
mod reader;
mod refusal;
mod serialized;
mod stored;
mod stream;
mod timestamp;
mod tls;
mod writer;

pub use stored::RedisStore;
