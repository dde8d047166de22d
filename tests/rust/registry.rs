//! The golden registry of stock Feast (`tests/golden/make_registry.py`): what Feast reads from
//! it, and what Feast makes of it when it records a materialization.

use std::collections::BTreeSet;
use std::path::PathBuf;

use feastrs::registry::catalog::Tags;
use feastrs::registry::{
    Catalog, DataSource, Entity, FeatureService, FeatureView, Field, OnDemandSource, Projection,
    SourceKind, ViewKind, ViewState, decode, splice,
};
use feastrs::{ErrorKind, Result};
use serde_json::{Map, Value as Json, json};

fn golden(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::read(folder.join(name)).unwrap()
}

fn shown() -> Json {
    serde_json::from_slice(&golden("registry.json")).unwrap()
}

fn catalog(project: &str) -> Catalog {
    decode(&golden("registry.db"), project).unwrap()
}

fn tags(tags: &Tags) -> Json {
    json!(tags)
}

fn field(field: &Field) -> Json {
    json!({
        "name": field.name,
        "dtype": field.dtype,
        "description": field.description,
        "tags": tags(&field.tags),
    })
}

fn fields(fields: &[Field]) -> Json {
    fields.iter().map(self::field).collect()
}

fn entity(entity: &Entity) -> Json {
    json!({
        "name": entity.name,
        "join_key": entity.join_key,
        "value_type": entity.value_type.map_or("UNKNOWN", |value_type| value_type.name()),
        "description": entity.description,
        "tags": tags(&entity.tags),
        "owner": entity.owner,
    })
}

fn source(source: Option<&DataSource>) -> Json {
    let Some(source) = source else { return Json::Null };
    let class = match source.kind {
        SourceKind::Parquet | SourceKind::OtherFile => "FileSource",
        SourceKind::Push => "PushSource",
        SourceKind::Kafka => "KafkaSource",
        SourceKind::Kinesis => "KinesisSource",
        SourceKind::Request => "RequestSource",
        SourceKind::Other => "?",
    };
    json!({
        "class": class,
        "name": source.name,
        "path": source.path,
        "s3_endpoint_override": source.s3_endpoint_override,
        "timestamp_field": source.timestamp_field,
        "created_timestamp_column": source.created_timestamp_column,
        "field_mapping": source.field_mapping,
        "description": source.description,
        "tags": tags(&source.tags),
        "owner": source.owner,
        "schema": fields(&source.schema),
        "batch_source": self::source(source.batch_source.as_deref()),
    })
}

fn projection(projection: &Projection) -> Json {
    let name = if projection.alias.is_empty() { &projection.view } else { &projection.alias };
    json!({
        "view": projection.view,
        "name_to_use": name,
        "features": fields(&projection.features),
        "join_key_map": projection.join_key_map,
    })
}

fn view(view: &FeatureView) -> Json {
    let class = match view.kind {
        ViewKind::Batch => "FeatureView",
        ViewKind::Stream => "StreamFeatureView",
        ViewKind::OnDemand => "OnDemandFeatureView",
        ViewKind::Label => "LabelView",
    };
    let (mut inputs, mut requests) = (Map::new(), Map::new());
    for (name, input) in &view.on_demand_sources {
        match input {
            OnDemandSource::View(used) => inputs.insert(name.clone(), projection(used)),
            OnDemandSource::Request(asked) => requests.insert(name.clone(), source(Some(asked))),
        };
    }
    json!({
        "class": class,
        "name": view.name,
        "entities": view.entities,
        "entity_columns": fields(&view.entity_columns),
        "features": fields(&view.features),
        "ttl": view.ttl,
        "online": view.online,
        "offline": view.offline,
        "batch_source": source(view.batch_source.as_ref()),
        "stream_source": source(view.stream_source.as_ref()),
        "inputs": inputs,
        "request_inputs": requests,
        "description": view.description,
        "tags": tags(&view.tags),
        "owner": view.owner,
    })
}

fn service(service: &FeatureService) -> Json {
    json!({
        "name": service.name,
        "projections": service.projections.iter().map(projection).collect::<Json>(),
        "description": service.description,
        "tags": tags(&service.tags),
        "owner": service.owner,
    })
}

fn compare(what: &str, expected: &Json, ours: Vec<Json>) {
    let expected = expected.as_array().unwrap();
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (ours, expected) in ours.iter().zip(expected) {
        assert_eq!(ours, expected, "{what} {}", expected["name"]);
    }
}

#[test]
fn the_catalog_is_what_feast_reads() {
    for (project, expected) in shown()["projects"].as_object().unwrap() {
        let catalog = catalog(project);
        compare("entity", &expected["entities"], catalog.entities.iter().map(entity).collect());
        let sources = catalog.data_sources.iter().map(|one| source(Some(one))).collect();
        compare("data source", &expected["data_sources"], sources);
        compare("view", &expected["views"], catalog.views.iter().map(view).collect());
        compare("service", &expected["services"], catalog.services.iter().map(service).collect());
    }
}

#[test]
fn projects_are_apart_and_an_unknown_one_is_empty() {
    let names: Vec<_> = catalog("other").projects.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["golden", "other"]);
    assert_eq!(catalog("golden").projects[0].description, "the first");

    let unknown = catalog("nobody");
    assert!(unknown.views.is_empty() && unknown.entities.is_empty());
    let error = unknown.view("driver_stats").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FeatureViewNotFound);
}

#[test]
fn what_the_native_path_must_not_do_is_noticed() {
    let catalog = catalog("golden");
    let reasons = |name: &str| catalog.view(name).unwrap().beyond_native.clone();

    assert!(reasons("driver_stats").is_empty());
    assert!(reasons("driver_events").is_empty());
    assert_eq!(
        reasons("everything"),
        ["asks for validation", "is also written to the offline store"]
    );
    assert_eq!(reasons("driver_windows"), ["has aggregations"]);
    assert_eq!(reasons("cost"), ["has a transformation"]);
    let delta = catalog.data_source("delta_source").unwrap();
    assert_eq!(delta.kind, SourceKind::OtherFile);
}

/// The bytes after stock Feast recorded the golden intervals, and after we did, in the order
/// and at the times of stock Feast.
fn materialized() -> (Vec<u8>, Vec<u8>) {
    let stock = golden("registry_materialized.db");
    let times = decode(&stock, "golden").unwrap();
    let shown = shown();
    let mut ours = golden("registry.db");
    for (name, interval) in shown["intervals"].as_object().unwrap() {
        let interval = (interval[0].as_i64().unwrap(), interval[1].as_i64().unwrap());
        let now = times.view(name).unwrap().last_updated_timestamp.unwrap();
        ours = splice::apply_materialization(&ours, "golden", name, interval, now).unwrap();
    }
    (stock, ours)
}

#[test]
fn a_materialization_is_recorded_as_feast_records_it() {
    let (stock, ours) = materialized();

    assert_eq!(canonical(&ours), canonical(&stock));

    let (stock, ours) = (decode(&stock, "golden").unwrap(), decode(&ours, "golden").unwrap());
    let names = |catalog: &Catalog| -> Vec<String> {
        catalog.views.iter().map(|view| view.name.clone()).collect()
    };
    assert_eq!(names(&ours), names(&stock));
    let view = ours.view("driver_stats").unwrap();
    assert_eq!(view.state, ViewState::AvailableOnline);
    assert_eq!(
        view.materialization_intervals,
        stock.view("driver_stats").unwrap().materialization_intervals
    );
}

#[test]
fn a_second_project_is_not_touched() {
    let (_, ours) = materialized();
    let view = decode(&ours, "other").unwrap();
    assert!(view.view("driver_stats").unwrap().materialization_intervals.is_empty());
}

#[test]
fn a_registry_cut_off_anywhere_never_panics() {
    let whole = golden("registry.db");
    let mut refused = 0;
    for len in 0..whole.len() {
        let read: Result<Catalog> = decode(&whole[..len], "golden");
        if let Err(error) = read {
            assert_eq!(error.kind(), ErrorKind::RegistryInvalid);
            refused += 1;
        }
        // Changed, or refused; what is changed is still a registry.
        let change = splice::set_state(&whole[..len], "golden", "cost", ViewState::Created, 1);
        assert!(change.is_err(), "an on-demand view has no materialization");
    }
    // The rest is cut exactly between two top-level fields.
    assert!(refused > whole.len() - 100, "{refused} of {}", whole.len());
}

/// A message with the fields of every level in order, whatever the order in which protobuf
/// wrote the entries of maps; without the registry's version and time of update.
fn canonical(registry: &[u8]) -> BTreeSet<Vec<u8>> {
    let fields = split(registry).unwrap();
    let is_stamp = |field: &(u64, Option<&[u8]>, &[u8])| matches!(field.0 >> 3, 4 | 5);
    fields.iter().filter(|field| !is_stamp(field)).map(sorted).collect()
}

fn sorted((tag, content, whole): &(u64, Option<&[u8]>, &[u8])) -> Vec<u8> {
    let Some(inner) = content.and_then(split).filter(|inner| !inner.is_empty()) else {
        return whole.to_vec();
    };
    let mut inner: Vec<Vec<u8>> = inner.iter().map(sorted).collect();
    inner.sort();
    let mut sorted = tag.to_le_bytes().to_vec();
    for field in inner {
        sorted.extend_from_slice(&(field.len() as u64).to_le_bytes());
        sorted.extend_from_slice(&field);
    }
    sorted
}

/// Tag, content (of strings and messages) and all bytes of a field.
type WireField<'a> = (u64, Option<&'a [u8]>, &'a [u8]);

/// The fields of a message; `None`: it is none.
fn split(mut message: &[u8]) -> Option<Vec<WireField<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (tag, after) = varint(message)?;
        let (content, after) = match tag & 7 {
            0 => (None, varint(after)?.1),
            1 => (None, after.get(8..)?),
            2 => {
                let (len, after) = varint(after)?;
                let len = usize::try_from(len).ok()?;
                (Some(after.get(..len)?), &after[len..])
            }
            5 => (None, after.get(4..)?),
            _ => return None,
        };
        fields.push((tag, content, &message[..message.len() - after.len()]));
        message = after;
    }
    Some(fields)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = bytes.iter().take(9).position(|byte| byte & 0x80 == 0)? + 1;
    let value =
        bytes[..len].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F));
    Some((value, &bytes[len..]))
}
