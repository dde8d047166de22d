//! Sources whose row groups are of different times: the newest is written first, and yet every
//! entity gets the newest of all of its rows, once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arrow_array::{ArrayRef, Float64Array, StringArray};
use feastrs::ErrorKind;
use feastrs::call::Call;
use feastrs::materialize::{
    MaterializeReport, MaterializeRequest, NoProgress, Window, materialize,
};
use feastrs::store::{
    DeletedView, OnlineStore, Scope, StoreReader, StoredGroup, StoredView, WriteBatch, WriteReport,
};

use super::fixture::{MemoryLedger, MemoryStore, Repo, first_failure, int_value, ints, micros};

/// Row numbers and times that repeat, without a pattern.
fn mixed(index: i64, modulus: i64) -> i64 {
    (index.wrapping_mul(6_364_136_223_846_793_005) >> 33).rem_euclid(modulus)
}

/// Writes rows of driver and time, in that order; trips are their numbers.
fn write(repo: &Repo, rows: &[(Option<i64>, i64)], group_rows: usize) {
    repo.write_groups(
        "stats.parquet",
        vec![
            ("driver", ints(rows.iter().map(|row| row.0))),
            ("event_timestamp", micros(rows.iter().map(|row| Some(row.1)))),
            ("trips", ints((0..rows.len() as i64).map(Some))),
        ],
        group_rows,
    );
}

/// The time and the number of each driver's newest row.
fn newest(rows: &[(Option<i64>, i64)]) -> BTreeMap<i64, (i64, Vec<u8>)> {
    let mut newest: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (number, &(driver, time)) in rows.iter().enumerate() {
        let row = (time, number as i64);
        newest.entry(driver.unwrap()).and_modify(|best| *best = row.max(*best)).or_insert(row);
    }
    newest.into_iter().map(|(driver, (time, number))| (driver, (time, int_value(number)))).collect()
}

#[test]
fn every_entity_gets_its_newest_row_once_however_times_and_row_groups_lie() {
    const ROWS: i64 = 30_000;
    let by_time = |index: i64| index / 10;
    let backwards = |index: i64| (ROWS - index) / 10;
    let overlapping = |index: i64| index / 10 + mixed(index, 400);
    let anyhow = |index: i64| mixed(index, 1_000);
    let times: [fn(i64) -> i64; 4] = [by_time, backwards, overlapping, anyhow];
    for (kind, time) in times.into_iter().enumerate() {
        for (drivers, memory) in [(3_000, 256), (20_000, 256), (20_000, 1)] {
            let mut repo = Repo::new();
            repo.config.materialization.max_memory_mb = memory;
            let rows: Vec<_> =
                (0..ROWS).map(|index| (Some(mixed(index + 7, drivers)), time(index))).collect();
            write(&repo, &rows, 2_500);

            let report = repo.run(0, ROWS).unwrap();

            let expected = newest(&rows);
            let case = format!("times {kind}, {drivers} drivers, {memory} MB");
            assert!(repo.trips(0..drivers) == expected, "{case}");
            let view = &report.views[0];
            assert_eq!((view.rows_read, view.rows_older), (ROWS as u64, 0), "{case}");
            assert_eq!(view.entities_written, expected.len() as u64, "{case}");
            let written: usize = repo.store.writes.lock().unwrap().iter().sum();
            assert_eq!(written, expected.len(), "{case}");
        }
    }
}

#[test]
fn a_row_group_whose_end_is_newest_is_divided_to_the_same_store() {
    const ROWS: i64 = 100_000;
    let by_time = |index: i64| index / 10;
    let backwards = |index: i64| (ROWS - index) / 10;
    // The first two thirds go back and forth, the rest does not.
    let in_the_end = |index: i64| if index < 66_000 { mixed(index, 900) } else { index / 10 };
    // As sorted as that, but for one of the oldest rows.
    let but_one = |index: i64| if index == 77 { ROWS } else { index / 10 };
    let times: [fn(i64) -> i64; 4] = [by_time, backwards, in_the_end, but_one];
    for (kind, time) in times.into_iter().enumerate() {
        for (group_rows, memory) in [(ROWS as usize, 256), (80_000, 256), (ROWS as usize, 1)] {
            let mut repo = Repo::new();
            repo.config.materialization.max_memory_mb = memory;
            let rows: Vec<_> =
                (0..ROWS).map(|index| (Some(mixed(index + 7, 60_000)), time(index))).collect();
            write(&repo, &rows, group_rows);

            let report = repo.run(0, ROWS).unwrap();

            let expected = newest(&rows);
            let case = format!("times {kind}, groups of {group_rows}, {memory} MB");
            assert!(repo.trips(0..60_000) == expected, "{case}");
            let view = &report.views[0];
            assert_eq!((view.rows_read, view.rows_older), (ROWS as u64, 0), "{case}");
            let written: usize = repo.store.writes.lock().unwrap().iter().sum();
            assert_eq!(written, expected.len(), "{case}");
        }
    }
}

#[test]
fn nothing_is_written_where_a_row_of_any_part_has_no_key() {
    const ROWS: i64 = 20_000;
    let number = |index: i64| (index != 3).then_some(index);
    let integers = ints((0..ROWS).map(number));
    let floats = (0..ROWS).map(|index| number(index).map_or(f64::NAN, |number| number as f64));
    let floats: ArrayRef = Arc::new(floats.collect::<Float64Array>());
    for keys in [integers, floats] {
        let mut repo = Repo::new();
        repo.config.materialization.online_write_batch_size = Some(10);
        let columns = vec![
            ("driver", keys),
            ("event_timestamp", micros((0..ROWS).map(Some))),
            ("trips", ints((0..ROWS).map(Some))),
        ];
        repo.write_groups("stats.parquet", columns, 5_000);

        assert_eq!(repo.run(0, ROWS).unwrap_err().kind(), ErrorKind::NullKey);
        assert!(repo.store.rows.lock().unwrap().is_empty());

        repo.config.materialization.skip_null_keys = true;
        let report = repo.run(0, ROWS).unwrap();
        assert_eq!((report.views[0].entities_written, report.views[0].null_keys), (19_999, 1));
    }
}

/// Replaces a time in the footer of `stats.parquet`.
fn lie(repo: &Repo, told: i64, lie: i64) {
    let path = repo.dir.path().join("stats.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    let length: [u8; 4] = bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap();
    let footer = bytes.len() - 8 - u32::from_le_bytes(length) as usize;
    let mut lies = 0;
    for start in footer..bytes.len() - 8 {
        if bytes[start..start + 8] == told.to_le_bytes() {
            bytes[start..start + 8].copy_from_slice(&lie.to_le_bytes());
            lies += 1;
        }
    }
    assert!(lies > 0);
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn statistics_that_are_wrong_are_found_out() {
    // The last row of the third group, or the first of the last one, is another than they say.
    for (told, instead, row) in [(1_000_299, 1_000_290, 291), (1_000_900, 1_000_902, 900)] {
        let rows: Vec<_> = (0..1_000).map(|index| (Some(index % 50), 1_000_000 + index)).collect();
        let repo = Repo::new();
        write(&repo, &rows, 100);
        lie(&repo, told, instead);

        let error = repo.run(0, i64::MAX).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::SourceInvalid);
        assert!(error.to_string().contains(&format!("row {row} of file")), "{error}");
        assert!(!repo.events().iter().any(|event| event.contains("from")), "{:?}", repo.events());
    }
}

#[test]
fn statistics_that_nothing_depends_on_may_be_wrong() {
    const ROWS: i64 = 100_000;
    let rows: Vec<_> = (0..ROWS).map(|index| (Some(index % 500), 1_000_000 + index)).collect();
    let repo = Repo::new();
    write(&repo, &rows, ROWS as usize);
    lie(&repo, 1_000_000 + ROWS - 1, 1_000_000 + ROWS - 6);

    repo.run(0, i64::MAX).unwrap();

    assert!(repo.trips(0..500) == newest(&rows));
}

/// Takes its time, and remembers the oldest row of each write.
#[derive(Default)]
struct Slow {
    store: MemoryStore,
    oldest: Mutex<Vec<i64>>,
}

impl OnlineStore for Slow {
    fn reader(&self, groups: &[StoredGroup]) -> Arc<dyn StoreReader> {
        self.store.reader(groups)
    }

    fn write(&self, batch: &WriteBatch<'_>, call: &Call<'_>) -> feastrs::Result<WriteReport> {
        thread::sleep(Duration::from_millis(10));
        self.oldest.lock().unwrap().extend(batch.event_timestamps.iter().min());
        self.store.write(batch, call)
    }

    fn delete(&self, views: &[DeletedView], scope: Scope, call: &Call<'_>) -> feastrs::Result<u64> {
        self.store.delete(views, scope, call)
    }

    fn prepare(&self, views: &[StoredView], call: &Call<'_>) -> feastrs::Result<()> {
        self.store.prepare(views, call)
    }
}

fn run(repo: &Repo, store: &Slow, end: i64) -> feastrs::Result<MaterializeReport> {
    let ledger = MemoryLedger { catalog: repo.catalog(), events: Mutex::default() };
    let request = MaterializeRequest {
        views: None,
        window: Window::Full { start: 0, end },
        every_row_until: None,
    };
    materialize(&request, &ledger, store, &repo.config, &NoProgress, &Call::unlimited())
}

#[test]
fn the_newest_rows_of_a_group_are_written_first() {
    const ROWS: i64 = 100_000;
    let by_time = |index: i64| index;
    let backwards = |index: i64| ROWS - index;
    let times: [fn(i64) -> i64; 2] = [by_time, backwards];
    for time in times {
        let repo = Repo::new();
        let rows: Vec<_> = (0..ROWS).map(|index| (Some(index), time(index))).collect();
        write(&repo, &rows, ROWS as usize);
        let store = Slow::default();

        let report = run(&repo, &store, ROWS).unwrap();

        assert_eq!(report.views[0].entities_written, ROWS as u64);
        // An eighth of them, and no more than what is looked at together.
        let oldest = store.oldest.lock().unwrap();
        assert!(oldest[..4].iter().all(|&time| time >= ROWS * 7 / 8 - 8_192), "{oldest:?}");
    }
}

#[test]
fn a_search_that_fails_ends_what_is_being_written() {
    const ROWS: i64 = 40_000;
    let mut repo = Repo::new();
    repo.config.materialization.online_write_batch_size = Some(100);
    let key = |index: i64| if index == 3 { "three".to_owned() } else { index.to_string() };
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(key)));
    let columns = vec![
        ("driver", keys),
        ("event_timestamp", micros((0..ROWS).map(Some))),
        ("trips", ints((0..ROWS).map(Some))),
    ];
    repo.write_groups("stats.parquet", columns, 20_000);
    let store = Slow::default();

    let report = run(&repo, &store, ROWS);

    let error = report.and_then(first_failure).unwrap_err();
    assert!(error.to_string().contains("three"), "{error}");
    // All of the newest part would take a second.
    let written = store.store.rows.lock().unwrap().len();
    assert!(written < 15_000, "{written} rows");
}
