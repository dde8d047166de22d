//! Redis Cluster: which node has a key, and reads that span nodes.
//!
//! `slot`, `slot_map` and `redirect` are pure and serve every driver: a key's slot, the slots'
//! nodes, and what a node answers that does not have the key (any more). `nodes` keeps the map
//! and the connections, `lane` is the conversation with one node, `reader` one read over all.

mod lane;
mod nodes;
mod reader;
mod redirect;
mod slot;
mod slot_map;

pub(super) use nodes::Cluster;
pub(super) use reader::ClusterReader;
