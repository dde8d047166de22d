//! Redis Cluster: which node has a key, and reads and writes that span nodes.
//!
//! `slot`, `slot_map` and `redirect` are pure: a key's slot, the slots' nodes, and what a node
//! answers that does not have the key (any more). So are `plan`, one read over all nodes, and
//! `lane`, the part of it that one node is asked for. Two drivers do what a plan says: `reader`
//! over blocking connections, `async_reader` over those that asynchronous reads share. Both have
//! one map and one set of pools, which `nodes` keeps and `fetch` brings up to date; so have
//! `writer`, which writes rows over blocking connections, and `delete`, which asks each master for
//! `own_slots`.

mod async_reader;
mod attempts;
mod delete;
mod fetch;
mod lane;
mod nodes;
mod own_slots;
mod plan;
mod reader;
mod redirect;
mod slot;
mod slot_map;
mod writer;

pub(super) use async_reader::AsyncClusterReader;
pub(super) use nodes::Cluster;
pub(super) use reader::ClusterReader;
pub(super) use writer::ClusterWriter;
