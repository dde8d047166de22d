//! The feature registry: what `feast apply` wrote down, read into an immutable [`Catalog`].
//!
//! `messages` and `decode*` turn bytes into a catalog, `lookup` finds things in it; `sources`
//! reads and replaces the file, `splice` changes it at wire level; `cache` holds the snapshot
//! that everybody reads.

pub mod cache;
pub mod catalog;
mod decode;
mod decode_field;
mod decode_logging;
mod decode_source;
mod decode_view;
mod dtype;
mod fields;
mod intervals;
mod lookup;
mod messages;
mod nearest;
mod permission;
pub mod sources;
pub mod splice;
mod version_id;

pub use cache::RegistryCache;
pub use catalog::{
    Catalog, DataSource, Entity, FeatureService, FeatureView, Field, OnDemandSource, Project,
    Projection, SourceKind, Unreadable, VectorIndex, ViewKind, ViewState, ViewVersion,
};
pub use decode::decode;
pub use intervals::compact_intervals;
pub use lookup::Index;
pub use permission::{Action, ObjectType, Permission, Policy};
