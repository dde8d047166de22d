//! Feature views of every kind from their messages, with the reasons why one can't be
//! materialized natively (`feast/feature_view.py`, `stream_feature_view.py`,
//! `on_demand_feature_view.py`, `labeling/label_view.py`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::{
    DataSource, FeatureView, OnDemandSource, Projection, SourceKind, ViewKind, ViewState,
};
use super::decode_field::{fields_of, micros, projection};
use super::decode_source::data_source;
use super::messages::{self as pb, Time};
use crate::error::{Error, ErrorKind, Result};

/// A tag of on-demand views that Feast keeps to itself.
const TRACK_METRICS_TAG: &str = "feast:track_metrics";

/// A `FeatureView` or `BatchFeatureView`.
pub(super) fn batch(
    spec: &pb::FeatureViewSpec,
    meta: Option<&pb::FeatureViewMeta>,
) -> Result<FeatureView> {
    let in_view = |error: Error| error.context(format!("feature view '{}'", spec.name));
    let beyond_native = [
        (spec.feature_transformation.is_some(), FeatureView::HAS_A_TRANSFORMATION),
        (!spec.source_views.is_empty(), "is made from other views"),
        (spec.enable_validation, "asks for validation"),
        (spec.offline, "is also written to the offline store"),
    ];
    Ok(FeatureView {
        entities: spec.entities.clone(),
        entity_columns: fields_of(&spec.entity_columns).map_err(in_view)?,
        features: fields_of(&spec.features).map_err(in_view)?,
        ttl: ttl(&spec.ttl),
        online: spec.online,
        offline: spec.offline,
        enabled: !spec.disabled,
        batch_source: source(&spec.batch_source).map_err(in_view)?,
        stream_source: source(&spec.stream_source).map_err(in_view)?,
        mode: spec.mode.clone(),
        beyond_native: reasons(&beyond_native),
        description: spec.description.clone(),
        tags: spec.tags.clone(),
        owner: spec.owner.clone(),
        ..with_meta(&spec.name, ViewKind::Batch, meta).map_err(in_view)?
    })
}

/// A `StreamFeatureView`.
pub(super) fn stream(
    spec: &pb::StreamFeatureViewSpec,
    meta: Option<&pb::FeatureViewMeta>,
) -> Result<FeatureView> {
    let in_view = |error: Error| error.context(format!("stream feature view '{}'", spec.name));
    let is_transformed =
        spec.user_defined_function.is_some() || spec.feature_transformation.is_some();
    let beyond_native = [
        (is_transformed, FeatureView::HAS_A_TRANSFORMATION),
        (!spec.aggregations.is_empty(), FeatureView::HAS_AGGREGATIONS),
        (spec.enable_validation, "asks for validation"),
    ];
    let stream_source = source(&spec.stream_source).map_err(in_view)?;
    let batch_source = match source(&spec.batch_source).map_err(in_view)? {
        Some(batch_source) => Some(batch_source),
        None => inner_batch_source(stream_source.as_ref()),
    };
    Ok(FeatureView {
        entities: spec.entities.clone(),
        entity_columns: fields_of(&spec.entity_columns).map_err(in_view)?,
        features: fields_of(&spec.features).map_err(in_view)?,
        ttl: ttl(&spec.ttl),
        online: spec.online,
        enabled: !spec.disabled,
        batch_source,
        stream_source,
        mode: spec.mode.clone(),
        beyond_native: reasons(&beyond_native),
        description: spec.description.clone(),
        tags: spec.tags.clone(),
        owner: spec.owner.clone(),
        ..with_meta(&spec.name, ViewKind::Stream, meta).map_err(in_view)?
    })
}

/// An `OnDemandFeatureView`; `definition` is the whole message.
pub(super) fn on_demand(
    spec: &pb::OnDemandFeatureViewSpec,
    meta: Option<&pb::OnDemandFeatureViewMeta>,
    definition: &[u8],
) -> Result<FeatureView> {
    let in_view = |error: Error| error.context(format!("on demand feature view '{}'", spec.name));
    let meta = meta.map(|meta| pb::FeatureViewMeta {
        created_timestamp: meta.created_timestamp.clone(),
        last_updated_timestamp: meta.last_updated_timestamp.clone(),
        materialization_intervals: Vec::new(),
        current_version_number: meta.current_version_number,
        state: meta.state,
    });
    let beyond_native = [
        (true, FeatureView::HAS_A_TRANSFORMATION),
        (!spec.aggregations.is_empty(), FeatureView::HAS_AGGREGATIONS),
    ];
    let mut tags = spec.tags.clone();
    tags.remove(TRACK_METRICS_TAG);
    Ok(FeatureView {
        entities: spec.entities.clone(),
        entity_columns: fields_of(&spec.entity_columns).map_err(in_view)?,
        features: fields_of(&spec.features).map_err(in_view)?,
        ttl: None,
        online: spec.write_to_online_store,
        enabled: !spec.disabled,
        on_demand_sources: on_demand_sources(spec).map_err(in_view)?,
        write_to_online_store: spec.write_to_online_store,
        singleton: spec.singleton,
        definition: definition.into(),
        mode: if spec.mode.is_empty() { "pandas".to_owned() } else { spec.mode.clone() },
        beyond_native: reasons(&beyond_native),
        description: spec.description.clone(),
        tags,
        owner: spec.owner.clone(),
        ..with_meta(&spec.name, ViewKind::OnDemand, meta.as_ref()).map_err(in_view)?
    })
}

/// A `LabelView`.
pub(super) fn label(spec: &pb::LabelViewSpec, meta: Option<&pb::Meta>) -> Result<FeatureView> {
    let in_view = |error: Error| error.context(format!("label view '{}'", spec.name));
    let meta = meta.map(|meta| pb::FeatureViewMeta {
        created_timestamp: meta.created_timestamp.clone(),
        last_updated_timestamp: meta.last_updated_timestamp.clone(),
        ..pb::FeatureViewMeta::default()
    });
    let source = source(&spec.source).map_err(in_view)?;
    let is_push = source.as_ref().is_some_and(|source| source.kind == SourceKind::Push);
    let (batch_source, stream_source) = match is_push {
        true => (inner_batch_source(source.as_ref()), source),
        false => (source, None),
    };
    Ok(FeatureView {
        entities: spec.entities.clone(),
        entity_columns: fields_of(&spec.entity_columns).map_err(in_view)?,
        features: fields_of(&spec.features).map_err(in_view)?,
        ttl: ttl(&spec.ttl),
        online: spec.online,
        batch_source,
        stream_source,
        beyond_native: vec!["is a label view"],
        description: spec.description.clone(),
        tags: spec.tags.clone(),
        owner: spec.owner.clone(),
        ..with_meta(&spec.name, ViewKind::Label, meta.as_ref()).map_err(in_view)?
    })
}

/// A view of which only the name, the kind and what Feast keeps in `meta` are filled in.
fn with_meta(
    name: &str,
    kind: ViewKind,
    meta: Option<&pb::FeatureViewMeta>,
) -> Result<FeatureView> {
    let meta = meta.cloned().unwrap_or_default();
    let intervals = meta.materialization_intervals.iter().map(|interval| {
        match (micros(&interval.start_time), micros(&interval.end_time)) {
            (Some(start), Some(end)) => Ok((start, end)),
            _ => Err(Error::new(
                ErrorKind::RegistryInvalid,
                "a materialization interval lacks its start or its end",
            )),
        }
    });
    Ok(FeatureView {
        name: name.to_owned(),
        kind,
        entities: Vec::new(),
        entity_columns: Vec::new(),
        features: Vec::new(),
        ttl: None,
        online: false,
        offline: false,
        enabled: true,
        state: state(meta.state),
        current_version_number: meta.current_version_number,
        batch_source: None,
        stream_source: None,
        on_demand_sources: BTreeMap::new(),
        write_to_online_store: false,
        singleton: false,
        definition: Arc::default(),
        mode: String::new(),
        beyond_native: Vec::new(),
        materialization_intervals: intervals.collect::<Result<_>>()?,
        description: String::new(),
        tags: BTreeMap::new(),
        owner: String::new(),
        created_timestamp: micros(&meta.created_timestamp),
        last_updated_timestamp: micros(&meta.last_updated_timestamp),
    })
}

/// A number that a newer Feast made up is "unspecified", as for Feast.
fn state(number: i32) -> ViewState {
    match number {
        1 => ViewState::Created,
        2 => ViewState::Generated,
        3 => ViewState::Materializing,
        4 => ViewState::AvailableOnline,
        _ => ViewState::Unspecified,
    }
}

/// Feast can't tell an unset ttl from zero.
fn ttl(ttl: &Option<Time>) -> Option<i64> {
    Some(micros(ttl).unwrap_or(0))
}

fn reasons(reasons: &[(bool, &'static str)]) -> Vec<&'static str> {
    reasons.iter().filter(|(applies, _)| *applies).map(|(_, reason)| *reason).collect()
}

fn source(source: &Option<pb::DataSource>) -> Result<Option<DataSource>> {
    source.as_ref().map(data_source).transpose()
}

fn inner_batch_source(source: Option<&DataSource>) -> Option<DataSource> {
    source.and_then(|source| source.batch_source.as_deref().cloned())
}

fn on_demand_sources(
    spec: &pb::OnDemandFeatureViewSpec,
) -> Result<BTreeMap<String, OnDemandSource>> {
    let mut sources = BTreeMap::new();
    for (name, source) in &spec.sources {
        let source = match (&source.feature_view, &source.feature_view_projection) {
            (Some(view), _) => OnDemandSource::View(whole_view(view)?),
            (None, Some(used)) => OnDemandSource::View(projection(used)?),
            (None, None) => match &source.request_data_source {
                Some(request) => OnDemandSource::Request(data_source(request)?),
                None => continue,
            },
        };
        sources.insert(name.clone(), source);
    }
    Ok(sources)
}

/// How an older Feast kept an input: the view itself.
fn whole_view(view: &pb::FeatureView) -> Result<Projection> {
    let spec = view.spec.clone().unwrap_or_default();
    let features = fields_of(&spec.features)?;
    Ok(Projection { view: spec.name, features, ..Projection::default() })
}
