//! Reading online, without a server: plans over small catalogs, and answers assembled from rows
//! that the test itself gives to the sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use feastrs::call::Call;
use feastrs::online::assemble::{FeastStatuses, StatusRules};
use feastrs::online::matrix::to_matrix;
use feastrs::online::read::Entities;
use feastrs::online::{FeatureSet, OnlineReader, PlanOptions, ReadPlan, Status};
use feastrs::registry::catalog::{Catalog, Entity, FeatureService, FeatureView, Field, Projection};
use feastrs::registry::{OnDemandSource, ViewKind, ViewState};
use feastrs::store::{
    DeletedView, OnlineStore, RowSink, Scope, StoreReader, StoredGroup, StoredView, WriteBatch,
    WriteReport,
};

use feastrs::value::{Column, Layout, PackedBytes, ValueType};
use feastrs::{ErrorKind, Result};

fn field(name: &str, value_type: ValueType) -> Field {
    Field {
        name: name.to_owned(),
        value_type,
        dtype: value_type.dtype().to_owned(),
        description: String::new(),
        tags: BTreeMap::new(),
        vector: None,
    }
}

fn view(name: &str, entity: &str, features: &[&str]) -> FeatureView {
    FeatureView {
        name: name.to_owned(),
        kind: ViewKind::Batch,
        entities: vec![entity.to_owned()],
        entity_columns: vec![field(&format!("{entity}_id"), ValueType::Int64)],
        features: features.iter().map(|name| field(name, ValueType::Int64)).collect(),
        ttl: Some(1_000_000),
        online: true,
        offline: false,
        enabled: true,
        state: ViewState::Unspecified,
        current_version_number: 0,
        batch_source: None,
        stream_source: None,
        on_demand_sources: BTreeMap::new(),
        write_to_online_store: false,
        singleton: false,
        definition: Arc::default(),
        mode: String::new(),
        beyond_native: Vec::new(),
        materialization_intervals: Vec::new(),
        description: String::new(),
        tags: BTreeMap::new(),
        owner: String::new(),
        created_timestamp: None,
        last_updated_timestamp: None,
    }
}

fn entity(name: &str) -> Entity {
    Entity {
        name: name.to_owned(),
        join_key: format!("{name}_id"),
        value_type: Some(ValueType::Int64),
        ..Entity::default()
    }
}

fn catalog() -> Catalog {
    Catalog {
        project: "p".to_owned(),
        entities: vec![entity("driver"), entity("rider")],
        views: vec![
            view("stats", "driver", &["a", "b"]),
            view("profile", "driver", &["b", "c"]),
            view("rides", "rider", &["d"]),
        ],
        services: vec![service()],
        ..Catalog::default()
    }
}

fn service() -> FeatureService {
    FeatureService {
        name: "svc".to_owned(),
        projections: vec![
            Projection {
                view: "stats".to_owned(),
                alias: "pickup".to_owned(),
                features: vec![field("b", ValueType::Int64)],
                join_key_map: BTreeMap::from([("driver_id".to_owned(), "pickup_id".to_owned())]),
                version_tag: None,
            },
            Projection {
                view: "stats".to_owned(),
                features: vec![field("a", ValueType::Int64)],
                ..Projection::default()
            },
        ],
        precompute_online: false,
        logging_config: None,
        description: String::new(),
        tags: BTreeMap::new(),
        owner: String::new(),
        created_timestamp: None,
        last_updated_timestamp: None,
    }
}

fn plan_of(references: &[&str], full_feature_names: bool) -> Result<ReadPlan> {
    let references: Vec<String> = references.iter().map(|&text| text.to_owned()).collect();
    let options = PlanOptions { full_feature_names, ..PlanOptions::default() };
    ReadPlan::new(&catalog(), FeatureSet::References(&references), &options)
}

fn column_names(plan: &ReadPlan) -> Vec<&str> {
    plan.columns.iter().map(|column| &*column.name).collect()
}

#[test]
fn views_with_equal_join_keys_share_a_group_and_columns_keep_their_order() {
    let plan = plan_of(&["profile:c", "rides:d", "stats:a"], false).unwrap();

    assert_eq!(column_names(&plan), ["c", "d", "a"]);
    assert_eq!(plan.groups.len(), 2);
    let names: Vec<&str> =
        plan.groups[0].stored.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, ["profile", "stats"]);
    assert_eq!(plan.groups[0].stored.expected_fields, 6);
}

#[test]
fn a_service_brings_aliases_and_renamed_join_keys() {
    let plan =
        ReadPlan::new(&catalog(), FeatureSet::Service("svc"), &PlanOptions::default()).unwrap();

    let keys: Vec<(&str, bool)> =
        plan.keys.iter().map(|key| (key.name.as_str(), key.is_needed)).collect();
    assert_eq!(keys, [("pickup_id", true), ("driver_id", true), ("rider_id", false)]);
    assert_eq!(plan.groups.len(), 2, "the same view for two entities is read twice");
    assert_eq!(plan.groups[0].join_keys, [("driver_id".to_owned(), 0)]);
}

#[test]
fn names_that_collide_are_refused_unless_full() {
    let error = plan_of(&["stats:b", "profile:b"], false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FeatureNameCollision);

    let plan = plan_of(&["stats:b", "profile:b"], true).unwrap();
    assert_eq!(column_names(&plan), ["stats__b", "profile__b"]);

    let error = plan_of(&["stats:b", "stats:b"], true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FeatureNameCollision);
}

#[test]
fn what_is_not_there_is_named() {
    let error = plan_of(&["stats:zzz"], false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FeatureNotFound);
    assert!(error.to_string().contains("zzz"), "{error}");

    assert_eq!(plan_of(&["nope:a"], false).unwrap_err().kind(), ErrorKind::FeatureViewNotFound);
    assert_eq!(plan_of(&[], false).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let no_versions = plan_of(&["stats@v2:a"], false).unwrap_err();
    assert_eq!(no_versions.kind(), ErrorKind::InvalidArgument);
    assert!(no_versions.to_string().contains("enable_online_feature_view_versioning"));
}

fn on_demand(name: &str, source: &str, inputs: &[&str]) -> FeatureView {
    let projection = Projection {
        view: source.to_owned(),
        features: inputs.iter().map(|name| field(name, ValueType::Int64)).collect(),
        ..Projection::default()
    };
    FeatureView {
        kind: ViewKind::OnDemand,
        mode: "python".to_owned(),
        on_demand_sources: BTreeMap::from([(source.to_owned(), OnDemandSource::View(projection))]),
        ..view(name, "driver", &["y", "z"])
    }
}

fn plan_on_demand(references: &[&str], views: Vec<FeatureView>) -> Result<ReadPlan> {
    let references: Vec<String> = references.iter().map(|&text| text.to_owned()).collect();
    let mut catalog = catalog();
    catalog.views.extend(views);
    ReadPlan::new(&catalog, FeatureSet::References(&references), &PlanOptions::default())
}

#[test]
fn an_on_demand_view_reads_what_it_needs_once_and_shows_what_was_asked() {
    let views = vec![on_demand("made", "stats", &["a", "b"])];

    let plan = plan_on_demand(&["made:z", "rides:d", "stats:b", "made:y"], views).unwrap();

    assert_eq!(column_names(&plan), ["d", "b", "stats__a"]);
    assert_eq!(plan.feature_names().collect::<Vec<_>>(), ["z", "d", "b", "y"]);
    assert_eq!(plan.groups.len(), 2);
    let on_demand = plan.on_demand.as_ref().unwrap();
    let inputs: Vec<(&str, usize)> =
        on_demand.views[0].inputs.iter().map(|one| (one.name.as_str(), one.column)).collect();
    assert_eq!(inputs, [("b", 1), ("a", 2)]);
}

#[test]
fn inputs_of_one_name_are_told_apart_by_their_views() {
    let mut made = on_demand("made", "stats", &["b"]);
    made.on_demand_sources.extend(on_demand("other", "profile", &["b"]).on_demand_sources);

    let plan = plan_on_demand(&["made:y", "rides:d"], vec![made]).unwrap();

    let on_demand = plan.on_demand.as_ref().unwrap();
    let inputs: Vec<&str> = on_demand.views[0].inputs.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(inputs, ["profile__b", "stats__b"]);
}

#[test]
fn what_only_feast_computes_is_left_to_it() {
    let made = || on_demand("made", "stats", &["b"]);
    let aggregated = FeatureView { beyond_native: vec![FeatureView::HAS_AGGREGATIONS], ..made() };
    let substrait = FeatureView { mode: "substrait".to_owned(), ..made() };
    let mut chained = on_demand("chained", "made", &["y"]);
    chained.name = "chained".to_owned();
    for (ask, views) in [
        ("made:y", vec![aggregated]),
        ("made:y", vec![substrait]),
        ("chained:y", vec![made(), chained]),
    ] {
        let error = plan_on_demand(&[ask], views).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NeedsFeast, "{error}");
    }
}

#[test]
fn a_stored_on_demand_view_is_read_like_any_other() {
    let kept = FeatureView { write_to_online_store: true, ..on_demand("kept", "stats", &["b"]) };

    let plan = plan_on_demand(&["kept:y"], vec![kept]).unwrap();

    assert!(plan.on_demand.is_none());
    assert_eq!(plan.groups[0].stored.views[0].name, "kept");
}

#[test]
fn views_that_may_not_serve_are_refused() {
    let mut catalog = catalog();
    let references = ["stats:a".to_owned()];
    let mut outcome = |change: &dyn Fn(&mut FeatureView)| {
        catalog.views[0] = view("stats", "driver", &["a"]);
        change(&mut catalog.views[0]);
        ReadPlan::new(&catalog, FeatureSet::References(&references), &PlanOptions::default())
            .map_err(|error| error.kind())
            .err()
    };

    assert_eq!(outcome(&|_| ()), None);
    assert_eq!(outcome(&|view| view.enabled = false), Some(ErrorKind::InvalidArgument));
    assert_eq!(outcome(&|view| view.state = ViewState::Created), Some(ErrorKind::InvalidArgument));
    assert_eq!(outcome(&|view| view.kind = ViewKind::OnDemand), Some(ErrorKind::NeedsFeast));
}

/// Answers every key with the rows it was made with.
#[derive(Clone, Copy)]
struct Rows {
    event_timestamp: Option<i64>,
    value: Option<&'static [u8]>,
}

impl OnlineStore for Rows {
    fn reader(&self, groups: &[StoredGroup]) -> Arc<dyn StoreReader> {
        Arc::new(RowsReader { rows: *self, groups: groups.to_vec() })
    }

    fn write(&self, _batch: &WriteBatch<'_>, _call: &Call<'_>) -> Result<WriteReport> {
        Ok(WriteReport::default())
    }

    fn delete(&self, _: &[DeletedView], _: Scope, _: &Call<'_>) -> Result<u64> {
        Ok(0)
    }

    fn prepare(&self, _views: &[StoredView], _call: &Call<'_>) -> Result<()> {
        Ok(())
    }
}

struct RowsReader {
    rows: Rows,
    groups: Vec<StoredGroup>,
}

impl StoreReader for RowsReader {
    fn read(&self, keys: &[PackedBytes], sink: &mut dyn RowSink, _call: &Call<'_>) -> Result<()> {
        for (group, (asked, keys)) in self.groups.iter().zip(keys).enumerate() {
            for _ in 0..keys.len() {
                for (view, stored) in asked.views.iter().enumerate() {
                    let values = vec![self.rows.value; stored.features.len()];
                    sink.row(group, view, self.rows.event_timestamp, &values)?;
                }
            }
        }
        Ok(())
    }
}

// Value { int64_val: 7 }
const SEVEN: &[u8] = &[0x20, 7];

fn drivers(ids: &[i64]) -> Entities {
    let values: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let column = Column { value_type: ValueType::Int64, layout: Layout::Typed, values };
    Entities { columns: vec![(0, column)], rows: ids.len() }
}

fn statuses(store: &Rows, rules: &StatusRules) -> (Status, bool, i64) {
    let plan = plan_of(&["stats:a"], false).unwrap();
    let answer =
        OnlineReader::new(plan, store).read(drivers(&[1]), rules, &Call::unlimited()).unwrap();
    let vector = &answer.whole().unwrap().features()[0];
    (vector.statuses.get(0), vector.column.is_null(0), vector.event_timestamps[0])
}

#[test]
fn statuses_say_what_became_of_a_value() {
    let ours = StatusRules::default();
    let there = Rows { event_timestamp: Some(5), value: Some(SEVEN) };
    let null = Rows { event_timestamp: Some(5), value: Some(&[]) };
    let added_later = Rows { event_timestamp: Some(5), value: None };
    let gone = Rows { event_timestamp: None, value: None };

    assert_eq!(statuses(&there, &ours), (Status::Present, false, 5));
    assert_eq!(statuses(&null, &ours), (Status::NullValue, true, 5));
    assert_eq!(statuses(&added_later, &ours), (Status::NotFound, true, 5));
    assert_eq!(statuses(&gone, &ours), (Status::NotFound, true, 0));

    let feast = StatusRules { feast: Some(FeastStatuses::Redis), ..ours };
    assert_eq!(statuses(&gone, &feast), (Status::Present, true, 0));
    assert_eq!(statuses(&null, &feast), (Status::Present, true, 5));
}

#[test]
fn rows_past_their_ttl_are_outside_max_age_where_that_is_enforced() {
    let row = Rows { event_timestamp: Some(5), value: Some(SEVEN) };
    let at = |now| StatusRules { max_age_at: Some(now), feast: None };

    assert_eq!(statuses(&row, &at(1_000_005)), (Status::Present, false, 5));
    assert_eq!(statuses(&row, &at(1_000_006)), (Status::OutsideMaxAge, true, 5));
}

#[test]
fn repeated_entities_come_back_in_every_row_and_into_the_matrix() {
    let plan = plan_of(&["stats:b", "profile:c"], false).unwrap();
    let row = Rows { event_timestamp: Some(5), value: Some(SEVEN) };
    let entities = drivers(&[3, 1, 3]);

    let answer = OnlineReader::new(plan, &row)
        .read(entities, &StatusRules::default(), &Call::unlimited())
        .unwrap();

    let whole = answer.whole().unwrap();
    let names: Vec<&str> = whole.vectors.iter().map(|vector| &*vector.name).collect();
    assert_eq!(names, ["driver_id", "b", "c"]);
    assert!(whole.vectors.iter().all(|vector| vector.column.len() == 3));
    assert_eq!(to_matrix(&answer, f64::NAN).unwrap(), [7.0; 6]);
}

#[test]
fn a_missing_join_key_is_named() {
    let plan = plan_of(&["stats:b"], false).unwrap();
    let row = Rows { event_timestamp: None, value: None };
    let nobody = Entities { columns: Vec::new(), rows: 1 };

    let error = OnlineReader::new(plan, &row)
        .read(nobody, &StatusRules::default(), &Call::unlimited())
        .err()
        .unwrap();

    assert_eq!(error.kind(), ErrorKind::JoinKeyMissing);
    assert!(error.to_string().contains("driver_id"), "{error}");
}
