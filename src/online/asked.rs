//! What a request asks for: references or a service -> features of views that may serve.
//! Knows the catalog, versions, aliases and gates; not where anything is stored.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Catalog, FeatureView, ViewKind, ViewState};

use super::plan::{FeatureSet, PlanOptions};
use super::reference::FeatureRef;

/// The features of a request, each with its view.
pub(crate) struct Asked<'a> {
    /// The features, in the order asked.
    pub refs: Vec<FeatureRef>,
    /// The name of the service, where its features are made beforehand.
    pub precomputed: Option<&'a str>,
    views: Vec<AskedView<'a>>,
    // For each reference, its view.
    view_of: Vec<usize>,
}

/// A requested view: the catalog's, or a version of it, seen through a projection.
pub(crate) struct AskedView<'a> {
    /// The view.
    pub view: Cow<'a, FeatureView>,
    /// From its join keys to those of the request.
    pub join_key_map: Option<&'a BTreeMap<String, String>>,
    /// The name in the request, with the version if one is asked for.
    pub name: String,
    /// The name in the request.
    pub name_without_version: String,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(
        catalog: &'a Catalog,
        features: FeatureSet<'a>,
        options: &PlanOptions,
    ) -> Result<Self> {
        match features {
            FeatureSet::References([]) => Err(Error::new(
                ErrorKind::InvalidArgument,
                "no features asked for; give a list of '<feature view>:<feature>' or a feature service",
            )),
            FeatureSet::References(references) => by_reference(catalog, references, options),
            FeatureSet::Service(name) => by_service(catalog, name, options),
        }
    }

    /// The features, each with its view.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FeatureRef, &AskedView<'a>)> {
        self.refs.iter().zip(&self.view_of).map(|(one, &view)| (one, &self.views[view]))
    }
}

impl<'a> AskedView<'a> {
    /// The view itself, whoever asks.
    pub(crate) fn of_catalog(
        view: &'a FeatureView,
        join_key_map: Option<&'a BTreeMap<String, String>>,
    ) -> Self {
        AskedView {
            view: Cow::Borrowed(view),
            join_key_map,
            name: view.name.clone(),
            name_without_version: view.name.clone(),
        }
    }

    /// Whether it is computed when it is asked for, and not stored.
    pub(super) fn is_computed(&self) -> bool {
        self.view.kind == ViewKind::OnDemand && !self.view.write_to_online_store
    }
}

fn by_reference<'a>(
    catalog: &'a Catalog,
    references: &[String],
    options: &PlanOptions,
) -> Result<Asked<'a>> {
    let refs = references.iter().map(|text| FeatureRef::parse(text)).collect::<Result<Vec<_>>>()?;
    let (mut views, mut view_of): (Vec<AskedView<'a>>, _) = (Vec::new(), Vec::new());
    let mut known: HashMap<String, usize> = HashMap::new();
    for reference in &refs {
        let name = reference.view_name();
        let position = match known.get(&name) {
            Some(position) => *position,
            None => {
                views.push(AskedView {
                    view: servable(catalog, &reference.view, reference.version, options)?,
                    join_key_map: None,
                    name: name.clone(),
                    name_without_version: reference.view.clone(),
                });
                known.insert(name, views.len() - 1);
                views.len() - 1
            }
        };
        view_of.push(position);
    }
    Ok(Asked { refs, precomputed: None, views, view_of })
}

fn by_service<'a>(catalog: &'a Catalog, name: &str, options: &PlanOptions) -> Result<Asked<'a>> {
    let service = catalog.service(name)?;
    let (mut refs, mut views, mut view_of) = (Vec::new(), Vec::new(), Vec::new());
    for projection in &service.projections {
        let version = projection.version_tag.map(i32::unsigned_abs);
        let alias = if projection.alias.is_empty() { &projection.view } else { &projection.alias };
        let view = AskedView {
            view: servable(catalog, &projection.view, version, options)?,
            join_key_map: Some(&projection.join_key_map),
            name: FeatureRef::versioned(alias, version),
            name_without_version: alias.clone(),
        };
        for field in &projection.features {
            let feature = field.name.clone();
            refs.push(FeatureRef { view: alias.clone(), version, feature });
            view_of.push(views.len());
        }
        views.push(view);
    }
    // With on-demand views among them, stored or not, Feast reads feature by feature.
    let is_plain = views.iter().all(|view: &AskedView<'_>| view.view.kind != ViewKind::OnDemand);
    let precomputed = (service.precompute_online && is_plain && !refs.is_empty())
        .then_some(service.name.as_str());
    Ok(Asked { refs, precomputed, views, view_of })
}

/// The view, or that version of it, if it may serve
/// (`feast/utils.py::_get_feature_views_to_use`).
fn servable<'a>(
    catalog: &'a Catalog,
    name: &str,
    version: Option<u32>,
    options: &PlanOptions,
) -> Result<Cow<'a, FeatureView>> {
    let view = match version {
        None => Cow::Borrowed(catalog.view(name)?),
        Some(version) if options.versioned_views => {
            Cow::Owned(catalog.view_version(name, version)?)
        }
        Some(version) => return Err(no_versions(name, version)),
    };
    check_enabled(&view)?;
    check_state(&view, options)?;
    if view.kind == ViewKind::OnDemand && !view.write_to_online_store {
        check_computable(&view)?;
    }
    Ok(view)
}

#[cold]
fn no_versions(name: &str, version: u32) -> Error {
    let message = format!(
        "'{name}@v{version}' asks for a version of a view, and online versioning is disabled; set \
         'enable_online_feature_view_versioning: true' under 'registry' in feature_store.yaml"
    );
    Error::new(ErrorKind::InvalidArgument, message)
}

fn check_enabled(view: &FeatureView) -> Result<()> {
    if view.enabled {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "feature view '{0}' is disabled; enable it with `feast feature-views enable {0}`",
            view.name
        ),
    ))
}

fn check_state(view: &FeatureView, options: &PlanOptions) -> Result<()> {
    let is_ready = match view.state {
        ViewState::Unspecified | ViewState::AvailableOnline => true,
        ViewState::Materializing => options.serve_while_materializing,
        ViewState::Created | ViewState::Generated => false,
    };
    if is_ready {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "feature view '{}' is in state {}; only views that are AVAILABLE_ONLINE serve: \
             materialize it first",
            view.name,
            view.state.name()
        ),
    ))
}

/// Whether an on-demand view can be computed: Feast alone aggregates when it serves, and runs what
/// is not Python.
pub(crate) fn check_computable(view: &FeatureView) -> Result<()> {
    let what = match view.mode.as_str() {
        _ if view.has_aggregations() => "has aggregations".to_owned(),
        "python" | "pandas" => return Ok(()),
        mode => format!("has the mode '{mode}'"),
    };
    let message = format!("on demand feature view '{}' {what}", view.name);
    Err(Error::new(ErrorKind::NeedsFeast, message))
}
