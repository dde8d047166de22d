//! Rows that are handed over: which of them are written, and which views they are for.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use feastrs::call::Call;
use feastrs::config::RepoConfig;
use feastrs::materialize::frame::{
    FrameBatch, FrameOptions, FramePlan, FrameReport, Nothing, of_push_source, of_view, write_frame,
};
use feastrs::registry::{Catalog, FeatureView, SourceKind, ViewKind};
use feastrs::store::EqualTimestamps;
use feastrs::value::ValueType;
use feastrs::{ErrorKind, Result};

use super::fixture::{Repo, field, int_value, ints, micros, source};

const OPTIONS: FrameOptions = FrameOptions {
    skip_null_keys: false,
    equal_timestamps: EqualTimestamps::Overwrite,
    write_rows: None,
    writes_bare: false,
};

type Columns = Vec<(&'static str, ArrayRef)>;

/// Rows of driver, event timestamp and trips.
fn rows(rows: &[(Option<i64>, Option<i64>, i64)]) -> Columns {
    vec![
        ("trips", ints(rows.iter().map(|row| Some(row.2)))),
        ("driver", ints(rows.iter().map(|row| row.0))),
        ("event_timestamp", micros(rows.iter().map(|row| row.1))),
    ]
}

fn write(repo: &Repo, batches: Vec<Columns>, options: FrameOptions) -> Result<FrameReport> {
    let plan = FramePlan::new(&repo.view, &repo.config)?;
    let batches = batches.into_iter().map(|columns| {
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        FrameBatch::of(&plan, &RecordBatch::try_from_iter_with_nullable(columns).unwrap())
    });
    let batches = batches.collect::<Result<Vec<_>>>()?;
    write_frame(&plan, &batches, options, &repo.store, &Call::unlimited())
}

#[test]
fn the_newest_row_of_all_batches_is_written_in_parts() {
    let repo = Repo::new();
    let first = rows(&[(Some(1), Some(5), 10), (Some(2), Some(5), 20), (Some(1), Some(7), 11)]);
    let second = rows(&[(Some(2), Some(4), 21), (Some(3), Some(1), 30), (Some(1), Some(7), 12)]);
    let options = FrameOptions { write_rows: Some(1), ..OPTIONS };

    let report = write(&repo, vec![first, second], options).unwrap();

    assert_eq!((report.rows, report.entities_written, report.rows_older), (6, 3, 0));
    assert_eq!(repo.stored(1), Some((7, None, vec![int_value(12)])));
    assert_eq!(repo.stored(2), Some((5, None, vec![int_value(20)])));
    assert_eq!(repo.stored(3), Some((1, None, vec![int_value(30)])));
    assert_eq!(*repo.store.writes.lock().unwrap(), [1, 1, 1]);
    let older = write(&repo, vec![rows(&[(Some(1), Some(6), 9)])], OPTIONS).unwrap();
    assert_eq!((older.entities_written, older.rows_older), (0, 1));
}

#[test]
fn among_equal_times_the_rule_decides() {
    let mut repo = Repo::new();
    repo.source().created_timestamp_column = "created".to_owned();
    let mut columns =
        rows(&[(Some(1), Some(5), 10), (Some(1), Some(5), 11), (Some(1), Some(5), 12)]);
    columns.push(("created", micros([Some(1), Some(3), None])));

    write(&repo, vec![columns.clone()], OPTIONS).unwrap();
    assert_eq!(repo.stored(1), Some((5, Some(3), vec![int_value(11)])));

    let first = FrameOptions { equal_timestamps: EqualTimestamps::Skip, ..OPTIONS };
    write(&repo, vec![columns], first).unwrap();
    assert_eq!(repo.stored(1), Some((5, Some(1), vec![int_value(10)])));
}

#[test]
fn null_keys_are_refused_or_skipped() {
    let repo = Repo::new();
    let frame = || vec![rows(&[(Some(1), Some(5), 10)]), rows(&[(None, Some(5), 11)])];

    let error = write(&repo, frame(), OPTIONS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NullKey);
    assert!(error.to_string().contains("source rows 1 "), "{error}");
    assert_eq!(repo.stored(1), None);

    let skips = FrameOptions { skip_null_keys: true, ..OPTIONS };
    let report = write(&repo, frame(), skips).unwrap();
    assert_eq!((report.entities_written, report.null_keys), (1, 1));
}

#[test]
fn what_is_wrong_with_a_frame_is_named() {
    let repo = Repo::new();
    let message = |batches| write(&repo, batches, OPTIONS).unwrap_err().to_string();

    let no_time = message(vec![rows(&[(Some(1), Some(1), 1)]), rows(&[(Some(1), None, 1)])]);
    assert!(
        no_time.contains("view 'stats': in the batch after row 1: row 1 has no time"),
        "{no_time}"
    );
    let lacking = message(vec![rows(&[(Some(1), Some(1), 1)]).split_off(1)]);
    assert!(lacking.contains("no column for the feature 'trips'"), "{lacking}");
    let twice = [rows(&[(Some(1), Some(1), 1)]), rows(&[(Some(1), Some(1), 1)])].concat();
    assert!(message(vec![twice]).contains("more than one column 'driver'"));
    let mut text = rows(&[(Some(1), Some(1), 1), (Some(1), Some(2), 1)]);
    text[0].1 = Arc::new(StringArray::from(vec!["7", "x"]));
    let message = message(vec![text]);
    assert!(message.contains("column 'trips', row 1: x of Arrow type Utf8"), "{message}");
}

#[test]
fn a_frame_without_values_is_not_written() {
    let mut repo = Repo::new();
    repo.view.features = vec![field("trips", ValueType::Double)];
    let mut nothing = rows(&[(Some(1), Some(1), 1), (Some(2), Some(2), 1)]);
    nothing[0].1 = Arc::new(Float64Array::from(vec![Some(f64::NAN), None]));

    assert_eq!(write(&repo, vec![nothing], OPTIONS).unwrap().nothing, Some(Nothing::NoValues));
    assert_eq!(write(&repo, vec![], OPTIONS).unwrap().nothing, Some(Nothing::NoRows));
    assert!(repo.store.writes.lock().unwrap().is_empty());
}

#[test]
fn times_may_be_text_or_nanoseconds() {
    let repo = Repo::new();
    let text = ["2024-05-01T08:00:00+02:00", "2024-05-01 06:00:00.000001", "2024-05-02"];
    let mut columns = rows(&[(Some(1), None, 1), (Some(2), None, 1), (Some(3), None, 1)]);
    columns[2].1 = Arc::new(StringArray::from(text.to_vec()));
    write(&repo, vec![columns], OPTIONS).unwrap();
    let six = 1_714_543_200_000_000;
    let times = [1, 2, 3].map(|driver| repo.stored(driver).unwrap().0);
    assert_eq!(times, [six, six + 1, six + 18 * 3_600_000_000]);

    let mut columns = rows(&[(Some(4), None, 1)]);
    columns[2].1 = ints([Some(six * 1_000 + 999)]);
    write(&repo, vec![columns], OPTIONS).unwrap();
    assert_eq!(repo.stored(4).unwrap().0, six);
}

#[test]
fn names_of_the_source_stand_for_those_of_the_view() {
    let mut repo = Repo::new();
    repo.source().field_mapping.insert("n".to_owned(), "trips".to_owned());
    let mut columns = rows(&[(Some(1), Some(5), 10)]);
    columns[0].0 = "n";

    write(&repo, vec![columns], OPTIONS).unwrap();

    assert_eq!(repo.stored(1), Some((5, None, vec![int_value(10)])));
}

fn pushed(name: &str, repo: &Repo) -> FeatureView {
    let mut stream = source("");
    stream.name = "clicks".to_owned();
    stream.kind = SourceKind::Push;
    FeatureView { name: name.to_owned(), stream_source: Some(stream), ..repo.view.clone() }
}

#[test]
fn a_push_source_feeds_views_natively_or_through_feast() {
    let repo = Repo::new();
    let labels = FeatureView { kind: ViewKind::Label, ..pushed("labels", &repo) };
    let unfed = repo.view.clone();
    let stream = FeatureView {
        kind: ViewKind::Stream,
        beyond_native: vec!["has a transformation"],
        ..pushed("stream", &repo)
    };
    let views = vec![unfed, pushed("a", &repo), stream, labels];
    let catalog = Catalog { project: "p".to_owned(), views, ..Catalog::default() };
    let config: &RepoConfig = &repo.config;

    let targets = of_push_source(&catalog, config, "clicks").unwrap();

    assert_eq!(targets.native, ["a", "stream"]);
    assert_eq!(
        targets.feasts.into_iter().collect::<Vec<_>>(),
        [("labels".to_owned(), "is a label view".to_owned())]
    );
    assert_eq!(of_view(&catalog, config, "stats").unwrap().native, ["stats"]);
    let error = of_push_source(&catalog, config, "source").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PushSourceNotFound);
    assert!(error.to_string().contains("'source'"), "{error}");
}
