//! Which row of an entity ends up in the store.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Int64Array, StringArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use feastrs::ErrorKind;
use feastrs::materialize::Window;
use feastrs::value::ValueType;

use super::fixture::{Repo, field, int_value, ints, key, micros};

#[test]
fn newest_row_of_the_window_wins_and_both_ends_count() {
    let repo = Repo::new();
    repo.write_rows(&[
        (1, 99, 10),
        (1, 100, 11),
        (2, 150, 20),
        (2, 140, 21),
        (3, 200, 30),
        (3, 201, 31),
        (4, 201, 40),
    ]);

    let report = repo.run(100, 200).unwrap();

    assert_eq!(repo.stored(1), Some((100, None, vec![int_value(11)])));
    assert_eq!(repo.stored(2), Some((150, None, vec![int_value(20)])));
    assert_eq!(repo.stored(3), Some((200, None, vec![int_value(30)])));
    assert_eq!(repo.stored(4), None);
    let view = &report.views[0];
    assert_eq!((view.rows_read, view.entities_written, view.rows_older), (7, 3, 0));
    assert_eq!(
        repo.events(),
        ["stats is Materializing", "stats from 100 to 200"],
        "the interval is recorded last"
    );
}

#[test]
fn ties_go_to_the_newer_created_timestamp_and_then_to_the_later_row() {
    let mut repo = Repo::new();
    repo.source().created_timestamp_column = "created".to_owned();
    repo.write(
        "stats.parquet",
        vec![
            ("driver", ints([1, 1, 1, 2, 2, 3, 3].map(Some))),
            ("event_timestamp", micros([5; 7].map(Some))),
            ("created", micros([Some(2), Some(9), None, None, Some(1), Some(4), Some(4)])),
            ("trips", ints([10, 11, 12, 20, 21, 30, 31].map(Some))),
        ],
    );

    repo.run(0, 10).unwrap();

    assert_eq!(repo.stored(1), Some((5, Some(9), vec![int_value(11)])));
    assert_eq!(repo.stored(2), Some((5, Some(1), vec![int_value(21)])));
    assert_eq!(repo.stored(3), Some((5, Some(4), vec![int_value(31)])));
}

#[test]
fn timestamps_of_every_unit_are_read_as_utc_and_cut_to_microseconds() {
    let second = 1_700_000_000;
    let zoned = TimestampMillisecondArray::from(vec![second * 1_000]).with_timezone("+02:00");
    let arrays: [(ArrayRef, i64); 4] = [
        (Arc::new(TimestampSecondArray::from(vec![second])), second * 1_000_000),
        (Arc::new(zoned), second * 1_000_000),
        (
            Arc::new(TimestampNanosecondArray::from(vec![second * 1_000_000_000 + 1_999])),
            second * 1_000_000 + 1,
        ),
        (Arc::new(Date32Array::from(vec![19_000])), 19_000 * 86_400_000_000),
    ];
    for (events, expected) in arrays {
        let repo = Repo::new();
        let columns = vec![
            ("driver", ints([Some(1)])),
            ("event_timestamp", events),
            ("trips", ints([Some(3)])),
        ];
        repo.write("stats.parquet", columns);
        repo.run(0, i64::MAX).unwrap();
        assert_eq!(repo.stored(1), Some((expected, None, vec![int_value(3)])));
    }
}

#[test]
fn nanoseconds_decide_although_microseconds_are_stored() {
    let repo = Repo::new();
    let events = TimestampNanosecondArray::from(vec![Some(1_002), Some(1_001), None]);
    repo.write(
        "stats.parquet",
        vec![
            ("driver", ints([1, 1, 2].map(Some))),
            ("event_timestamp", Arc::new(events)),
            ("trips", ints([10, 11, 20].map(Some))),
        ],
    );

    repo.run(0, 10).unwrap();

    assert_eq!(repo.stored(1), Some((1, None, vec![int_value(10)])));
    assert_eq!(repo.stored(2), None, "a row without event timestamp is in no window");
}

#[test]
fn null_keys_fail_with_a_sample_or_are_skipped_and_counted() {
    let mut repo = Repo::new();
    repo.write(
        "stats.parquet",
        vec![
            ("driver", ints([Some(1), None, Some(2), None])),
            ("event_timestamp", micros([5, 5, 5, 500].map(Some))),
            ("trips", ints([Some(10), Some(0), None, Some(0)])),
        ],
    );

    let error = repo.run(0, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NullKey);
    assert!(error.to_string().contains("1 rows have a null in the join key (driver)"), "{error}");
    assert_eq!(repo.events(), ["stats is Materializing", "stats is Generated"]);

    repo.config.materialization.skip_null_keys = true;
    let report = repo.run(0, 10).unwrap();
    assert_eq!((report.views[0].null_keys, report.views[0].entities_written), (1, 2));
    assert_eq!(repo.stored(2), Some((5, None, vec![Vec::new()])), "a null feature is empty");
}

#[test]
fn entities_past_the_budget_are_decided_on_disk_to_the_same_store() {
    let rows: Vec<(i64, i64, i64)> =
        (0..60_000).map(|row| (row * 7 % 20_000, row * 31 % 1_000, row)).collect();
    let mut wide = Repo::new();
    wide.write_rows(&rows);
    wide.run(0, 1_000).unwrap();

    let mut narrow = Repo::new();
    narrow.config.materialization.max_memory_mb = 1;
    narrow.config.materialization.online_write_batch_size = Some(700);
    narrow.write_rows(&rows);
    let report = narrow.run(0, 1_000).unwrap();

    assert_eq!(report.views[0].entities_written, 20_000);
    assert_eq!(wide.trips(0..20_000), narrow.trips(0..20_000));
    assert!(narrow.store.writes.lock().unwrap().iter().all(|&rows| rows <= 700));
    // A third run over the same rows changes nothing and reads as many.
    wide.config.materialization.max_memory_mb = 1;
    assert_eq!(wide.run(0, 1_000).unwrap().views[0].rows_read, 60_000);
}

#[test]
fn composite_and_missing_entities_have_their_own_keys() {
    let mut repo = Repo::new();
    repo.view.entity_columns =
        vec![field("driver", ValueType::Int64), field("city", ValueType::String)];
    let cities = StringArray::from(vec!["a", "b", "a"]);
    repo.write(
        "stats.parquet",
        vec![
            ("driver", ints([1, 1, 1].map(Some))),
            ("city", Arc::new(cities)),
            ("event_timestamp", micros([1, 2, 3].map(Some))),
            ("trips", ints([10, 20, 30].map(Some))),
        ],
    );
    repo.run(0, 10).unwrap();
    let join_keys =
        [("city".to_owned(), ValueType::String), ("driver".to_owned(), ValueType::Int64)];
    let columns: [ArrayRef; 2] =
        [Arc::new(StringArray::from(vec!["b"])), Arc::new(Int64Array::from(vec![1]))];
    let rows = repo.store.rows.lock().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[&("stats".to_owned(), key(&join_keys, &columns))].0, 2);
    drop(rows);

    let mut entityless = Repo::new();
    entityless.view.entities = vec!["__dummy".to_owned()];
    entityless.view.entity_columns = vec![field("__dummy_id", ValueType::String)];
    entityless.write_rows(&[(1, 3, 10), (2, 9, 20), (3, 5, 30)]);
    entityless.run(0, 10).unwrap();
    let dummy: ArrayRef = Arc::new(StringArray::from(vec![""]));
    let dummy_key = key(&[("__dummy_id".to_owned(), ValueType::String)], &[dummy]);
    let rows = entityless.store.rows.lock().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[&("stats".to_owned(), dummy_key)], (9, None, vec![int_value(20)]));
}

#[test]
fn incremental_windows_follow_the_last_interval_or_the_ttl() {
    let mut view = Repo::new().view;
    let window = Window::Incremental { end: 9_000_000, now: 8_000_000, overlap: 0 };
    assert_eq!(window.of_view(&view).unwrap_err().kind(), ErrorKind::InvalidArgument);
    view.ttl = Some(5_000_000);
    assert_eq!(window.of_view(&view).unwrap().start, 3_000_000);
    view.ttl = Some(0);
    assert_eq!(window.of_view(&view).unwrap().start, 8_000_000 - 52 * 7 * 86_400_000_000);
    view.materialization_intervals = vec![(0, 70), (0, 40)];
    assert_eq!(window.of_view(&view).unwrap().start, 70);
    let window = Window::Incremental { end: 9_000_000, now: 8_000_000, overlap: 30 };
    assert_eq!(window.of_view(&view).unwrap().start, 40);

    let error = Window::Full { start: 1_000_001, end: 0 }.check().unwrap_err();
    assert!(error.to_string().contains("1970-01-01T00:00:01.000001Z, lies after"), "{error}");
}
