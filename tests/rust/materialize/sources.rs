//! Which files and columns a source is, and how much of them is in memory at once.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StringArray};
use feastrs::ErrorKind;
use feastrs::call::Call;
use feastrs::cloud::CloudSettings;
use feastrs::materialize::Progress;
use feastrs::materialize::ViewReport;
use feastrs::offline::{RowSet, Scan, SourceFiles};
use feastrs::value::ValueType;

use super::fixture::{Repo, field, int_value, ints, micros};

#[test]
fn folders_and_globs_are_one_source_in_natural_order() {
    for path in ["data", "data/*.parquet", "data/"] {
        let mut repo = Repo::new();
        repo.source().path = path.to_owned();
        repo.write_rows_to("data/part-10.parquet", &[(1, 5, 10), (2, 5, 20)]);
        repo.write_rows_to("data/part-9.parquet", &[(1, 5, 11)]);
        repo.write_rows_to("data/_ignored.parquet", &[(3, 5, 30)]);

        repo.run(0, 10).unwrap();

        assert_eq!(repo.stored(1).unwrap().2, [int_value(10)], "later file wins a tie: {path}");
        assert_eq!(repo.stored(3), None);
    }
}

#[test]
fn folder_names_are_columns() {
    let mut repo = Repo::new();
    repo.source().path = "data".to_owned();
    repo.view.features.push(field("day", ValueType::Int64));
    repo.view.features.push(field("region", ValueType::String));
    repo.write_rows_to("data/day=3/region=eu/a.parquet", &[(1, 5, 10)]);
    repo.write_rows_to("data/day=4/region=us/a.parquet", &[(1, 6, 11)]);

    repo.run(0, 10).unwrap();

    let (event, _, values) = repo.stored(1).unwrap();
    assert_eq!((event, &values[1]), (6, &int_value(4)));
    assert!(values[2].ends_with(b"us"));
}

#[test]
fn field_mapping_renames_keys_times_and_features() {
    let mut repo = Repo::new();
    let mapping =
        [("id", "driver"), ("ts", "event_timestamp"), ("made", "created"), ("t", "trips")];
    let mapping = mapping.map(|(from, to)| (from.to_owned(), to.to_owned()));
    repo.source().field_mapping = mapping.into_iter().collect();
    // Either name of a timestamp column may stand in the definition.
    repo.source().created_timestamp_column = "made".to_owned();
    repo.write(
        "stats.parquet",
        vec![
            ("t", ints([10, 11].map(Some))),
            ("made", micros([1, 2].map(Some))),
            ("ts", micros([5, 5].map(Some))),
            ("id", ints([1, 1].map(Some))),
        ],
    );

    repo.run(0, 10).unwrap();

    assert_eq!(repo.stored(1), Some((5, Some(2), vec![int_value(11)])));
}

#[test]
fn row_groups_outside_the_window_are_not_read() {
    let repo = Repo::new();
    let rows = 0..1_000i64;
    repo.write_groups(
        "stats.parquet",
        vec![
            ("driver", ints(rows.clone().map(Some))),
            ("event_timestamp", micros(rows.clone().map(Some))),
            ("trips", ints(rows.map(Some))),
        ],
        100,
    );

    let report = repo.run(250, 350).unwrap();

    assert_eq!((report.views[0].rows_read, report.views[0].entities_written), (200, 101));
}

fn pin(repo: &Repo, path: &str) -> SourceFiles {
    let settings = CloudSettings::default();
    SourceFiles::pin(path, Some(repo.dir.path()), &settings, &Call::unlimited()).unwrap()
}

#[test]
fn giant_rows_come_in_small_batches() {
    let repo = Repo::new();
    // A dictionary: the file is small, the rows are not.
    let text = "x".repeat(100_000);
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..2_000).map(|_| &text)));
    repo.write("wide.parquet", vec![("text", texts), ("id", ints((0..2_000).map(Some)))]);
    let source = pin(&repo, "wide.parquet");
    let columns = ["id".to_owned(), "text".to_owned()];
    let scan = Scan {
        source: &source,
        columns: &columns,
        window: None,
        keys: &[],
        rows: None,
        batch_bytes: 4 << 20,
    };

    let (mut rows, mut largest) = (Vec::new(), 0);
    scan.run(&mut |batch| {
        rows.extend(batch.row_numbers());
        largest = largest.max(batch.columns[1].get_array_memory_size());
        Ok(())
    })
    .unwrap();

    assert_eq!(rows, (0..2_000).collect::<Vec<u64>>());
    assert!(largest < 40 << 20, "the largest batch had {largest} bytes");
}

#[test]
fn chosen_rows_are_read_with_their_numbers() {
    let repo = Repo::new();
    repo.write_groups("a.parquet", vec![("id", ints((0..30_000).map(Some)))], 9_000);
    repo.write("b.parquet", vec![("id", ints((30_000..40_000).map(Some)))]);
    let source = pin(&repo, "*.parquet");
    let mut wanted = RowSet::new(source.rows());
    let chosen = [0, 8_999, 9_000, 15_000, 29_999, 30_000, 39_999];
    chosen.iter().for_each(|&row| wanted.insert(row));
    let columns = ["id".to_owned()];
    let scan = Scan {
        source: &source,
        columns: &columns,
        window: None,
        keys: &[],
        rows: Some(&wanted),
        batch_bytes: 1 << 14,
    };

    let (mut found, mut read) = (Vec::new(), 0);
    scan.run(&mut |batch| {
        let ids = batch.columns[0].as_any().downcast_ref::<arrow_array::Int64Array>().unwrap();
        read += batch.rows();
        for (index, row) in batch.row_numbers().enumerate() {
            assert_eq!(ids.value(index), row as i64);
            found.extend(wanted.contains(row).then_some(row));
        }
        Ok(())
    })
    .unwrap();

    assert_eq!(found, chosen);
    assert!(read < 12_000, "{read} rows were read for seven");
}

#[test]
fn what_is_wrong_with_a_source_is_told_before_anything_is_written() {
    let mut repo = Repo::new();
    let error = repo.run(0, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceNotFound);
    assert!(error.to_string().starts_with("view 'stats': source path 'stats.parquet'"), "{error}");

    std::fs::write(repo.dir.path().join("stats.parquet"), b"PAR1 is not enough").unwrap();
    let error = repo.run(0, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceInvalid);
    assert!(error.to_string().contains("is not a Parquet file, or is cut short"), "{error}");

    repo.write("stats.parquet", vec![("driver", ints([Some(1)])), ("trips", ints([Some(1)]))]);
    let error = repo.run(0, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceInvalid);
    let text = error.to_string();
    assert!(text.contains("no column 'event_timestamp', which is the event timestamp"), "{text}");
    assert!(text.ends_with("its columns are driver, trips"), "{text}");

    repo.write_rows(&[(1, 1, 1)]);
    repo.view.features.push(field("rating", ValueType::Double));
    let error = repo.run(0, 10).unwrap_err();
    assert!(error.to_string().contains("'rating', which is the feature 'rating'"), "{error}");
    assert!(repo.events().is_empty() && repo.store.rows.lock().unwrap().is_empty());
}

#[test]
fn a_value_of_another_type_is_named_with_its_row() {
    let mut repo = Repo::new();
    let trips = StringArray::from(vec!["1", "2", "three", "4"]);
    repo.write_rows_to("data/a.parquet", &[(9, 5, 90)]);
    repo.write(
        "data/b.parquet",
        vec![
            ("driver", ints([1, 2, 3, 4].map(Some))),
            ("event_timestamp", micros([5; 4].map(Some))),
            ("trips", Arc::new(trips)),
        ],
    );
    repo.source().path = "data".to_owned();

    let error = repo.run(0, 10).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    let text = error.to_string();
    assert!(text.contains("b.parquet', taken by itself: column 'trips'"), "{text}");
}

struct Rewriter<'a>(&'a Repo);

impl Progress for Rewriter<'_> {
    fn view_started(&self, _: &str, total_rows: u64) {
        assert_eq!(total_rows, 1);
        self.0.write_rows(&[(1, 1, 1), (2, 2, 2)]);
    }
    fn advanced(&self, _: &str, _: u64) {}
    fn view_finished(&self, _: &ViewReport) {}
    fn view_failed(&self, view: &str, _: &feastrs::Error) {
        assert_eq!(view, "stats");
    }
}

#[test]
fn a_file_that_changes_is_noticed_and_nothing_is_recorded() {
    let repo = Repo::new();
    repo.write_rows(&[(1, 1, 1)]);

    let error = repo.run_with(0, 10, &Rewriter(&repo), &Call::unlimited()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::SourceChanged);
    assert!(error.to_string().contains("stats.parquet' changed while it was read"), "{error}");
    assert_eq!(repo.events(), ["stats is Materializing", "stats is Generated"]);
}
