//! Which views rows are for, and which of them the native path can't write rightly.

use std::collections::BTreeMap;

use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::materialize::select::definition_obstacle;
use crate::registry::{Catalog, DataSource, FeatureView, SourceKind, VectorIndex, ViewKind};

/// The views that rows are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameTargets {
    /// Those that the core writes.
    pub native: Vec<String>,
    /// Those that only Feast can write, each with the reason.
    pub feasts: BTreeMap<String, String>,
    /// Services with ready-made vectors of any of the views: to be computed anew.
    pub precomputed: Vec<String>,
    /// Those whose batch source the core can append to.
    pub appendable: Vec<String>,
}

/// The one view of that name (`feast/feature_store.py::write_to_online_store`).
pub fn of_view(catalog: &Catalog, config: &RepoConfig, name: &str) -> Result<FrameTargets> {
    Ok(divided(catalog, config, &[catalog.view(name)?]))
}

/// The views that a push source of that name feeds
/// (`feast/feature_store.py::_fvs_for_push_source_or_raise`).
pub fn of_push_source(catalog: &Catalog, config: &RepoConfig, name: &str) -> Result<FrameTargets> {
    let is_meant = |source: &&DataSource| source.kind == SourceKind::Push && source.name == name;
    let is_fed =
        |view: &&FeatureView| view.stream_source.as_ref().is_some_and(|one| is_meant(&one));
    let fed: Vec<&FeatureView> = catalog.views.iter().filter(is_fed).collect();
    if !fed.is_empty() {
        return Ok(divided(catalog, config, &fed));
    }
    let mut known: Vec<&str> = catalog
        .data_sources
        .iter()
        .filter(|source| source.kind == SourceKind::Push)
        .map(|source| source.name.as_str())
        .collect();
    known.sort_unstable();
    let there_is = match known.is_empty() {
        true => "the project has none".to_owned(),
        false => format!("the project's push sources are {}", known.join(", ")),
    };
    Err(Error::new(
        ErrorKind::PushSourceNotFound,
        format!("no feature view has the push source '{name}'; {there_is}"),
    ))
}

/// Why rows of its source, which Feast's offline store gives, can't be written to `view` as they
/// are; `None` if they can.
pub fn of_source(view: &FeatureView, config: &RepoConfig) -> Option<String> {
    let of_view = || obstacle(view).map(str::to_owned);
    definition_obstacle(view).or_else(|| repo_obstacle(config)).or_else(of_view)
}

fn divided(catalog: &Catalog, config: &RepoConfig, views: &[&FeatureView]) -> FrameTargets {
    let of_repo = repo_obstacle(config);
    let mut targets = FrameTargets::default();
    for view in views {
        match of_repo.clone().or_else(|| obstacle(view).map(str::to_owned)) {
            None => targets.native.push(view.name.clone()),
            Some(reason) => {
                targets.feasts.insert(view.name.clone(), reason);
            }
        }
    }
    let is_written = |name: &str| views.iter().any(|view| view.name == name);
    let services = catalog.services.iter().filter(|service| {
        service.precompute_online
            && service.projections.iter().any(|projection| is_written(&projection.view))
    });
    let appendable = views.iter().filter(|view| is_appendable(view, config));
    targets.appendable = appendable.map(|view| view.name.clone()).collect();
    targets.precomputed = services.map(|service| service.name.clone()).collect();
    targets
}

/// Transformations, aggregations and the like are no obstacle: Feast writes given rows as they
/// are, too.
fn obstacle(view: &FeatureView) -> Option<&'static str> {
    let has_vectors = || {
        let indexed = |vector: &VectorIndex| vector.is_indexed;
        view.features.iter().any(|field| field.vector.as_ref().is_some_and(indexed))
    };
    match view.kind {
        ViewKind::OnDemand => Some("is an on-demand view, whose function is Python"),
        ViewKind::Label => Some("is a label view"),
        _ if view.batch_source.is_none() => Some("has no batch source"),
        _ if has_vectors() => Some("has a feature that is searched by vectors"),
        _ => None,
    }
}

/// Whether rows can be added to the view's batch source: Parquet on disk or in a bucket, one file
/// or a folder, whose columns have the names that the view has.
fn is_appendable(view: &FeatureView, config: &RepoConfig) -> bool {
    config.has_file_store()
        && view.kind != ViewKind::OnDemand
        && view.batch_source.as_ref().is_some_and(|source| {
            let scheme = source.path.split_once("://").map(|(scheme, _)| scheme);
            source.kind == SourceKind::Parquet
                && matches!(scheme, None | Some("file" | "s3" | "gs"))
                && source.field_mapping.is_empty()
                && !source.path.contains(['*', '?', '['])
        })
}

fn repo_obstacle(config: &RepoConfig) -> Option<String> {
    match &config.online_store {
        OnlineStoreConfig::Other(name) => Some(format!("the online store '{name}' is Feast's")),
        _ => None,
    }
}
