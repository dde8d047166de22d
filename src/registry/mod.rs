//! The feature registry: what `feast apply` wrote down, read into an immutable [`Catalog`].

pub mod catalog;

pub use catalog::{
    Catalog, DataSource, Entity, FeatureService, FeatureView, Field, Projection, SourceKind,
    ViewKind, ViewState,
};
