//! Which views a materialization is about, as Feast chooses them
//! (`feast/feature_store.py::_get_feature_views_to_materialize`), and which of those the
//! native path can't do rightly.

use std::collections::BTreeMap;

use crate::cloud::Cloud;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Catalog, FeatureView, SourceKind, ViewKind};

/// Compute engines that do what the native path does, and nothing else.
const NATIVE_ENGINES: [&str; 3] =
    ["local", "feastrs.feast.MaterializationEngine", "feastrs.feast.engine.MaterializationEngine"];

/// The views named, in that order, each an error if it is missing, disabled or not online;
/// without names every batch, stream and written on-demand view that is online and enabled.
pub fn select_views<'c>(
    catalog: &'c Catalog,
    names: Option<&[String]>,
) -> Result<Vec<&'c FeatureView>> {
    match names {
        Some(names) => names.iter().map(|name| named(catalog, name)).collect(),
        None => Ok(catalog.views.iter().filter(|view| is_materialized(view)).collect()),
    }
}

fn is_materialized(view: &FeatureView) -> bool {
    let is_written = match view.kind {
        ViewKind::Batch | ViewKind::Stream => view.online,
        ViewKind::OnDemand => view.write_to_online_store,
        ViewKind::Label => false,
    };
    is_written && view.enabled
}

fn named<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c FeatureView> {
    let view = catalog.view(name)?;
    let obstacle = match view.kind {
        ViewKind::Label => "is a label view; its rows come by `push`",
        _ if !view.enabled => "is disabled; enable it first",
        ViewKind::OnDemand if !view.write_to_online_store => {
            "is an on-demand view without `write_to_online_store`"
        }
        ViewKind::Batch | ViewKind::Stream if !view.online && !view.offline => {
            "is not configured to be served online"
        }
        _ => return Ok(view),
    };
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!("feature view '{name}' can't be materialized: it {obstacle}"),
    ))
}

/// Why rows of the source are not all that it takes to materialize `view`, wherever the source
/// is; as the end of a sentence that begins with the view.
pub fn definition_obstacle(view: &FeatureView) -> Option<String> {
    if view.kind == ViewKind::OnDemand {
        return Some("is an on-demand view, whose function is Python".to_owned());
    }
    if !view.beyond_native.is_empty() {
        return Some(view.beyond_native.join(" and "));
    }
    view.offline.then(|| "is also written to the offline store (`offline=True`)".to_owned())
}

/// Why the native path can't materialize `view` rightly, as the end of a sentence that begins
/// with the view: "has a transformation". `None` if it can. Such views go through Feast.
pub fn native_obstacle(view: &FeatureView, catalog: &Catalog) -> Option<String> {
    if let Some(obstacle) = definition_obstacle(view) {
        return Some(obstacle);
    }
    let is_precomputed = |name: &str| view.name == name;
    let service = catalog.services.iter().find(|service| {
        service.precompute_online
            && service.projections.iter().any(|projection| is_precomputed(&projection.view))
    });
    if let Some(service) = service {
        return Some(format!("belongs to '{}', a service with `precompute_online`", service.name));
    }
    let Some(source) = &view.batch_source else {
        return Some("has no batch source".to_owned());
    };
    let scheme = source.path.split_once("://").map_or("file", |(scheme, _)| scheme);
    match source.kind {
        SourceKind::Parquet if scheme == "file" || Cloud::of_scheme(scheme).is_some() => None,
        SourceKind::Parquet => Some(format!(
            "has a source on '{scheme}', which is neither a disk nor S3, Google Cloud Storage or \
             the web"
        )),
        SourceKind::OtherFile => Some("has a file source that is not Parquet".to_owned()),
        _ => Some("has a source that is not a Parquet file".to_owned()),
    }
}

/// Why nothing of this repository can be materialized natively: a compute engine, offline store
/// or online store that is Feast's. `None` if it can.
pub fn repo_obstacle(config: &RepoConfig) -> Option<String> {
    if !NATIVE_ENGINES.contains(&config.batch_engine_type.as_str()) {
        return Some(format!("the compute engine '{}' is Feast's", config.batch_engine_type));
    }
    if !config.has_file_store() {
        return Some(format!("the offline store '{}' is Feast's", config.offline_store_type));
    }
    if config.registry.has_s3_arguments && config.registry.path.starts_with("s3://") {
        return Some("the registry is written with s3_additional_kwargs, which are boto3's".into());
    }
    match &config.online_store {
        OnlineStoreConfig::Other(name) => Some(format!("the online store '{name}' is Feast's")),
        _ => None,
    }
}

/// The chosen views, divided: names of those that the core materializes, and those that only
/// Feast can, each with the reason.
pub fn divide(
    catalog: &Catalog,
    config: &RepoConfig,
    names: Option<&[String]>,
) -> Result<(Vec<String>, BTreeMap<String, String>)> {
    let of_repo = repo_obstacle(config);
    let (mut native, mut feasts) = (Vec::new(), BTreeMap::new());
    if names.is_none() {
        // Whoever wants all of them wants these, too.
        let unread = catalog.unreadable.iter().filter(|one| one.what == "Feature view");
        feasts.extend(unread.map(|one| (one.name.clone(), one.reason.clone())));
    }
    for view in select_views(catalog, names)? {
        match of_repo.clone().or_else(|| native_obstacle(view, catalog)) {
            None => native.push(view.name.clone()),
            Some(reason) => {
                feasts.insert(view.name.clone(), reason);
            }
        }
    }
    Ok((native, feasts))
}

/// [`ErrorKind::NeedsFeast`] that names every view of `views` with an obstacle, and each
/// reason.
pub fn require_native(
    config: &RepoConfig,
    catalog: &Catalog,
    views: &[&FeatureView],
) -> Result<()> {
    let mut reasons: Vec<String> = repo_obstacle(config).into_iter().collect();
    for view in views {
        if let Some(obstacle) = native_obstacle(view, catalog) {
            reasons.push(format!("view '{}' {obstacle}", view.name));
        }
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NeedsFeast,
        format!("only Feast can materialize this: {}", reasons.join("; ")),
    ))
}
