//! From the bytes of a registry to a [`Catalog`]: one project of it, as Feast's own
//! `from_proto` methods would show it.

use prost::Message;

use super::catalog::{Catalog, Entity, FeatureService, FeatureView, Project};
use super::decode_field::{micros, projection};
use super::decode_source::data_source;
use super::messages as pb;
use super::{decode_view, fields};
use crate::error::{Error, ErrorKind, Result};
use crate::value::ValueType;

/// The project `project` of the registry `bytes`. A project that the registry does not know
/// has nothing in it, as for Feast.
pub fn decode(bytes: &[u8], project: &str) -> Result<Catalog> {
    let registry = parse(bytes)?;
    Ok(Catalog {
        project: project.to_owned(),
        projects: projects(&registry),
        entities: entities(&registry, project)?,
        data_sources: of_project(&registry.data_sources, project, |source| &source.project)
            .map(data_source)
            .collect::<Result<_>>()?,
        views: views(&registry, project)?,
        services: services(&registry, project)?,
        version_id: registry.version_id,
        ..Catalog::default()
    })
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

fn of_project<'a, T>(
    items: &'a [T],
    project: &'a str,
    project_of: impl Fn(&T) -> &str + 'a,
) -> impl Iterator<Item = &'a T> {
    items.iter().filter(move |item| project_of(item) == project)
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

fn entities(registry: &pb::Registry, project: &str) -> Result<Vec<Entity>> {
    let project_of = |entity: &pb::Entity| -> bool {
        entity.spec.as_ref().is_some_and(|spec| spec.project == project)
    };
    registry.entities.iter().filter(|entity| project_of(entity)).map(entity).collect()
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

fn views(registry: &pb::Registry, project: &str) -> Result<Vec<FeatureView>> {
    let mut views = Vec::new();
    for view in &registry.feature_views {
        let spec = view.spec.as_ref().filter(|spec| spec.project == project);
        views.extend(spec.map(|spec| decode_view::batch(spec, view.meta.as_ref())));
    }
    for view in &registry.stream_feature_views {
        let spec = view.spec.as_ref().filter(|spec| spec.project == project);
        views.extend(spec.map(|spec| decode_view::stream(spec, view.meta.as_ref())));
    }
    for view in &registry.on_demand_feature_views {
        let spec = view.spec.as_ref().filter(|spec| spec.project == project);
        views.extend(spec.map(|spec| decode_view::on_demand(spec, view.meta.as_ref())));
    }
    for view in &registry.label_views {
        let spec = view.spec.as_ref().filter(|spec| spec.project == project);
        views.extend(spec.map(|spec| decode_view::label(spec, view.meta.as_ref())));
    }
    views.into_iter().collect()
}

fn services(registry: &pb::Registry, project: &str) -> Result<Vec<FeatureService>> {
    let mut services = Vec::new();
    for service in &registry.feature_services {
        let Some(spec) = service.spec.as_ref().filter(|spec| spec.project == project) else {
            continue;
        };
        let projections: Result<_> = spec.features.iter().map(projection).collect();
        let meta = service.meta.clone().unwrap_or_default();
        services.push(FeatureService {
            name: spec.name.clone(),
            projections: projections
                .map_err(|error| error.context(format!("feature service '{}'", spec.name)))?,
            precompute_online: spec.precompute_online,
            description: spec.description.clone(),
            tags: spec.tags.clone(),
            owner: spec.owner.clone(),
            created_timestamp: micros(&meta.created_timestamp),
            last_updated_timestamp: micros(&meta.last_updated_timestamp),
        });
    }
    Ok(services)
}
