//! Every Rust test that crosses modules, in one binary: one link, one run.
#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod golden;
mod layers;
mod materialize;
mod online;
mod redis;
mod redis_async;
mod redis_cluster;
mod redis_cluster_async;
mod redis_cluster_server;
mod redis_cluster_writes;
mod redis_copy;
mod redis_delete;
mod redis_faults;
mod redis_field_ttl;
mod redis_fresh;
mod redis_many;
mod redis_pieces;
mod redis_proxy;
mod redis_replace;
mod redis_rows;
mod redis_script;
mod redis_sentinel;
mod redis_server;
mod redis_tls;
mod registry;
mod server;
mod server_http2;
mod server_panic;
mod serving;
mod sqlite;
mod verify;
mod writers;
