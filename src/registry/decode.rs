//! From the bytes of a registry to a [`Catalog`]: one project of it, as Feast's own
//! `from_proto` methods would show it.

use prost::Message;

use super::catalog::{
    Catalog, DataSource, Entity, FeatureService, FeatureView, Project, Unreadable, ViewVersion,
};
use super::decode_field::{micros, projection};
use super::decode_logging::logging_config;
use super::decode_source::data_source;
use super::messages as pb;
use super::permission::Permission;
use super::{decode_view, fields};
use crate::error::{Error, ErrorKind, Result};
use crate::value::ValueType;

/// The project `project` of the registry `bytes`. A project that the registry does not know
/// has nothing in it, as for Feast. A definition that can't be read is noted, and is missed by
/// whoever asks for it.
pub fn decode(bytes: &[u8], project: &str) -> Result<Catalog> {
    let registry = parse(bytes)?;
    let mut unreadable = Vec::new();
    let on_demand = on_demand_definitions(bytes)?;
    let catalog = Catalog {
        project: project.to_owned(),
        projects: projects(&registry),
        entities: readable("Entity", entities(&registry, project), &mut unreadable),
        data_sources: readable("Data source", sources(&registry, project), &mut unreadable),
        views: readable("Feature view", views(&registry, project, &on_demand), &mut unreadable),
        services: readable("Feature service", services(&registry, project), &mut unreadable),
        permissions: permissions(&registry, project),
        versions: versions(&registry, project),
        ..Catalog::default()
    };
    Ok(Catalog { unreadable, version_id: registry.version_id, ..catalog })
}

/// A definition's name, and what it says.
type Named<'a, T> = (&'a str, Result<T>);

fn readable<'a, T>(
    what: &'static str,
    definitions: impl Iterator<Item = Named<'a, T>>,
    unreadable: &mut Vec<Unreadable>,
) -> Vec<T> {
    let keep = |(name, definition): Named<'a, T>| match definition {
        Ok(definition) => Some(definition),
        Err(error) => {
            log::warn!("a definition of the registry can't be read: {error}");
            let (name, reason) = (name.to_owned(), error.to_string());
            unreadable.push(Unreadable { what, name, reason });
            None
        }
    };
    definitions.filter_map(keep).collect()
}

/// Bytes that parse but hold nothing that every registry has are some other file: protobuf
/// skips what it does not know.
fn parse(bytes: &[u8]) -> Result<pb::Registry> {
    let invalid = |why: &str| {
        let message = format!("not a Feast registry ({} bytes): {why}", bytes.len());
        Error::new(ErrorKind::RegistryInvalid, message)
    };
    if bytes.is_empty() {
        return Err(invalid("the file is empty; run 'feast apply' to write it anew"));
    }
    fields::check_framing(bytes)?;
    let registry = pb::Registry::decode(bytes)
        .map_err(|error| invalid("it can't be decoded").with_source(error))?;
    if registry.version_id.is_empty()
        && registry.registry_schema_version.is_empty()
        && registry.last_updated.is_none()
    {
        return Err(invalid("it has neither a version nor a time of its last update"));
    }
    Ok(registry)
}

/// Projects of an older Feast are in the metadata only.
fn projects(registry: &pb::Registry) -> Vec<Project> {
    let mut projects: Vec<Project> = registry
        .projects
        .iter()
        .map(|project| {
            let spec = project.spec.clone().unwrap_or_default();
            let meta = project.meta.clone().unwrap_or_default();
            Project {
                name: spec.name,
                description: spec.description,
                tags: spec.tags,
                owner: spec.owner,
                created_timestamp: micros(&meta.created_timestamp),
                last_updated_timestamp: micros(&meta.last_updated_timestamp),
            }
        })
        .collect();
    for metadata in &registry.project_metadata {
        if projects.iter().all(|known| known.name != metadata.project) {
            projects.push(Project { name: metadata.project.clone(), ..Project::default() });
        }
    }
    projects
}

fn entities<'a>(
    registry: &'a pb::Registry,
    project: &'a str,
) -> impl Iterator<Item = Named<'a, Entity>> {
    registry.entities.iter().filter_map(move |one| {
        let spec = one.spec.as_ref().filter(|spec| spec.project == project)?;
        Some((spec.name.as_str(), entity(one)))
    })
}

fn sources<'a>(
    registry: &'a pb::Registry,
    project: &'a str,
) -> impl Iterator<Item = Named<'a, DataSource>> {
    let of_project = registry.data_sources.iter().filter(move |source| source.project == project);
    of_project.map(|source| (source.name.as_str(), data_source(source)))
}

fn entity(entity: &pb::Entity) -> Result<Entity> {
    let spec = entity.spec.clone().unwrap_or_default();
    let meta = entity.meta.clone().unwrap_or_default();
    let value_type = ValueType::require(spec.value_type, &format!("entity '{}'", spec.name))?;
    Ok(Entity {
        join_key: if spec.join_key.is_empty() { spec.name.clone() } else { spec.join_key },
        name: spec.name,
        value_type: Some(value_type).filter(|value_type| *value_type != ValueType::Invalid),
        description: spec.description,
        tags: spec.tags,
        owner: spec.owner,
        created_timestamp: micros(&meta.created_timestamp),
        last_updated_timestamp: micros(&meta.last_updated_timestamp),
    })
}

/// Batch, then stream, then on-demand, then label views. `on_demand` are the serialized
/// on-demand views, all of them.
fn views<'a>(
    registry: &'a pb::Registry,
    project: &'a str,
    on_demand: &'a [&'a [u8]],
) -> impl Iterator<Item = Named<'a, FeatureView>> {
    let batch = registry.feature_views.iter().filter_map(move |view| {
        let spec = view.spec.as_ref().filter(|spec| spec.project == project)?;
        Some((spec.name.as_str(), decode_view::batch(spec, view.meta.as_ref())))
    });
    let stream = registry.stream_feature_views.iter().filter_map(move |view| {
        let spec = view.spec.as_ref().filter(|spec| spec.project == project)?;
        Some((spec.name.as_str(), decode_view::stream(spec, view.meta.as_ref())))
    });
    let on_demand = registry.on_demand_feature_views.iter().zip(on_demand);
    let on_demand = on_demand.filter_map(move |(view, definition)| {
        let spec = view.spec.as_ref().filter(|spec| spec.project == project)?;
        Some((spec.name.as_str(), decode_view::on_demand(spec, view.meta.as_ref(), definition)))
    });
    let label = registry.label_views.iter().filter_map(move |view| {
        let spec = view.spec.as_ref().filter(|spec| spec.project == project)?;
        Some((spec.name.as_str(), decode_view::label(spec, view.meta.as_ref())))
    });
    batch.chain(stream).chain(on_demand).chain(label)
}

/// The serialized on-demand views, in the registry's order: their functions are for Python,
/// and what a newer Feast put there must reach it.
fn on_demand_definitions(registry: &[u8]) -> Result<Vec<&[u8]>> {
    const ON_DEMAND_FEATURE_VIEWS: u32 = 8;
    let spans = fields::fields_of(registry)?.into_iter();
    let definitions = spans.filter(|span| span.number == ON_DEMAND_FEATURE_VIEWS && span.is_len);
    Ok(definitions.filter_map(|span| registry.get(span.content)).collect())
}

fn permissions(registry: &pb::Registry, project: &str) -> Vec<Permission> {
    let specs = registry.permissions.iter().filter_map(|one| one.spec.as_ref());
    specs.filter(|spec| spec.project == project).map(Permission::from_spec).collect()
}

fn versions(registry: &pb::Registry, project: &str) -> Vec<ViewVersion> {
    let history = registry.feature_view_version_history.iter();
    let records = history.flat_map(|history| &history.records);
    records
        .filter(|record| record.project_id == project)
        .map(|record| ViewVersion {
            view: record.feature_view_name.clone(),
            number: record.version_number,
            kind: record.feature_view_type.clone(),
            definition: record.feature_view_proto.as_slice().into(),
            created_timestamp: micros(&record.created_timestamp),
            version_id: record.version_id.clone(),
        })
        .collect()
}

/// The view that was kept as a version.
pub(super) fn decode_version(version: &ViewVersion) -> Result<FeatureView> {
    let bytes = version.definition.as_ref();
    let decoded = match version.kind.as_str() {
        "feature_view" => pb::FeatureView::decode(bytes)
            .map(|view| decode_view::batch(&view.spec.unwrap_or_default(), view.meta.as_ref())),
        "stream_feature_view" => pb::StreamFeatureView::decode(bytes)
            .map(|view| decode_view::stream(&view.spec.unwrap_or_default(), view.meta.as_ref())),
        "on_demand_feature_view" => pb::OnDemandFeatureView::decode(bytes).map(|view| {
            decode_view::on_demand(&view.spec.unwrap_or_default(), view.meta.as_ref(), bytes)
        }),
        "label_view" => pb::LabelView::decode(bytes)
            .map(|view| decode_view::label(&view.spec.unwrap_or_default(), view.meta.as_ref())),
        other => {
            let message = format!(
                "version v{} of '{}' is a '{other}', which feastrs does not know",
                version.number, version.view
            );
            return Err(Error::new(ErrorKind::NeedsFeast, message));
        }
    };
    let view = decoded.map_err(|error| {
        let message = format!("version v{} of '{}' can't be decoded", version.number, version.view);
        Error::new(ErrorKind::RegistryInvalid, message).with_source(error)
    })??;
    Ok(FeatureView { current_version_number: version.number, ..view })
}

fn services<'a>(
    registry: &'a pb::Registry,
    project: &'a str,
) -> impl Iterator<Item = Named<'a, FeatureService>> {
    registry.feature_services.iter().filter_map(move |one| {
        let spec = one.spec.as_ref().filter(|spec| spec.project == project)?;
        Some((spec.name.as_str(), service(spec, one.meta.clone().unwrap_or_default())))
    })
}

fn service(spec: &pb::FeatureServiceSpec, meta: pb::Meta) -> Result<FeatureService> {
    let projections: Result<_> = spec.features.iter().map(projection).collect();
    Ok(FeatureService {
        name: spec.name.clone(),
        projections: projections
            .map_err(|error| error.context(format!("feature service '{}'", spec.name)))?,
        precompute_online: spec.precompute_online,
        logging_config: spec.logging_config.clone().and_then(logging_config),
        description: spec.description.clone(),
        tags: spec.tags.clone(),
        owner: spec.owner.clone(),
        created_timestamp: micros(&meta.created_timestamp),
        last_updated_timestamp: micros(&meta.last_updated_timestamp),
    })
}
