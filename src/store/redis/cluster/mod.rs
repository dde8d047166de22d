//! Redis Cluster: which node has a key.
//!
//! `slot` and `slot_map` and `redirect` are pure and serve every driver: a key's slot, the
//! slots' nodes, and what a node answers that does not have the key (any more).

mod redirect;
mod slot;
mod slot_map;

pub(super) use redirect::Redirect;
pub(super) use slot::slot_of;
pub(super) use slot_map::{Shard, SlotMap};
