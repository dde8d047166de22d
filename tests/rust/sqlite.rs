//! The SQLite store against real files: what is written is read, the newest row wins, and what
//! is wrong with a file is said with its path.

use std::fs;
use std::path::Path;
use std::thread;

use feastrs::ErrorKind;
use feastrs::call::Call;
use feastrs::config::SqliteConfig;
use feastrs::key::{KeyShape, KeyVersion};
use feastrs::store::sqlite::SqliteStore;
use feastrs::store::{DeletedView, OnlineStore, Scope, StoredView, WriteBatch, WriteReport};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::redis_rows::{Row, packed, read, text, view, write};

const SECOND: i64 = 1_000_000;

fn store(path: &Path, equal_timestamps_skip: bool) -> SqliteStore {
    let config = SqliteConfig { path: path.to_owned(), equal_timestamps_skip };
    SqliteStore::new(&config, "proj")
}

fn prepared(folder: &TempDir, views: &[StoredView]) -> SqliteStore {
    let store = store(&folder.path().join("data/online.db"), false);
    store.prepare(views, &Call::unlimited()).expect("tables");
    store
}

fn some(micros: i64, values: &[&[u8]]) -> Row {
    (Some(micros), values.iter().map(|value| Some(value.to_vec())).collect())
}

#[test]
fn deletion_drops_the_tables_of_the_views_and_no_others() {
    let folder = TempDir::new().unwrap();
    let (gone, kept) = (view("quo\"te", 2), view("kept", 1));
    let store = prepared(&folder, &[gone.clone(), kept.clone()]);
    write(&store, &gone, &["k1"], SECOND, b"").unwrap();
    write(&store, &kept, &["k1"], SECOND, b"").unwrap();
    let keys = KeyShape::new(KeyVersion::V3, ["k"]);
    let views = [DeletedView { stored: gone, keys }];

    let delete = || store.delete(&views, Scope::Rows, &Call::unlimited()).unwrap();

    assert_eq!((delete(), delete()), (1, 0));
    let rows = read(&store, &[kept], &["k1"], 0).unwrap();
    assert_eq!(rows[0], [some(SECOND, &[b""])]);
}

#[test]
fn what_is_written_is_read() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (view("a", 3), view("quo\"te", 1));
    let store = prepared(&folder, &[a.clone(), b.clone()]);
    store.prepare(std::slice::from_ref(&a), &Call::unlimited()).unwrap();
    let batch = WriteBatch {
        view: &a,
        keys: &packed(["k1", "k2"]),
        event_timestamps: &[1_700_000_000 * SECOND + 999_999, -3 * SECOND / 2],
        created_timestamps: Some(&[None, Some(7 * SECOND)]),
        values: &[packed([text("x"), vec![]]), packed(["", ""]), packed(["\x20\x05", "\x38\x01"])],
    };
    let report = store.write(&batch, &Call::unlimited()).unwrap();
    assert_eq!(report, WriteReport { written: 2, older: 0 });
    write(&store, &b, &["k2"], 0, b"").unwrap();

    let mut asked = a.clone();
    asked.features.reverse();
    asked.features.push(view("later", 5).features.remove(4));
    let rows = read(&store, &[b, asked], &["k2", "none", "k1"], 0).unwrap();

    assert_eq!(rows[0], [some(0, &[b""]), (None, vec![None]), (None, vec![None])]);
    let mut k2 = some(-SECOND, &[b"\x38\x01", b"", b""]);
    let mut k1 = some(1_700_000_000 * SECOND, &[b"\x20\x05", b"", &text("x")]);
    k2.1.push(None);
    k1.1.push(None);
    assert_eq!(rows[1], [k2, (None, vec![None; 4]), k1]);
}

#[test]
fn the_table_is_the_one_that_feast_makes() {
    let folder = TempDir::new().unwrap();
    let view = view("v", 1);
    let store = prepared(&folder, std::slice::from_ref(&view));
    write(&store, &view, &["k"], 3 * SECOND, &text("é")).unwrap();

    let connection = Connection::open(folder.path().join("data/online.db")).unwrap();
    let columns: Vec<(String, String, i64)> = connection
        .prepare("SELECT name, type, pk FROM pragma_table_info('proj_v')")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let column = |name: &str, kind: &str, pk| (name.to_owned(), kind.to_owned(), pk);
    assert_eq!(
        columns,
        [
            column("entity_key", "BLOB", 1),
            column("feature_name", "TEXT", 2),
            column("value", "BLOB", 0),
            column("value_text", "TEXT", 0),
            column("vector_value", "BLOB", 0),
            column("event_ts", "timestamp", 0),
            column("created_ts", "timestamp", 0),
        ]
    );
    let types: String = connection
        .query_row(
            "SELECT group_concat(typeof(entity_key) || typeof(value) || value_text || \
             typeof(event_ts) || event_ts || typeof(created_ts)) FROM proj_v",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(types, "blobblobéinteger3null");
    let indexes: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'proj_v_ek'", [], |r| r.get(0))
        .unwrap();
    assert_eq!(indexes, 1);
}

#[test]
fn a_table_of_an_older_feast_gets_its_column() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("online.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE proj_v (entity_key BLOB, feature_name TEXT, value BLOB, vector_value \
             BLOB, event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))",
        )
        .unwrap();
    let (store, view) = (store(&path, false), view("v", 1));

    store.prepare(std::slice::from_ref(&view), &Call::unlimited()).unwrap();
    write(&store, &view, &["k"], 0, &text("x")).unwrap();

    assert_eq!(read(&store, &[view], &["k"], 0).unwrap()[0], [some(0, &[&text("x")])]);
}

#[test]
fn the_newest_row_wins() {
    let folder = TempDir::new().unwrap();
    let view = view("v", 2);
    let first = prepared(&folder, std::slice::from_ref(&view));
    let stored = |written, older| WriteReport { written, older };
    let value = |name| text(name);

    assert_eq!(
        write(&first, &view, &["a", "b"], 10 * SECOND, &value("ten")).unwrap(),
        stored(2, 0)
    );
    let report = write(&first, &view, &["a", "b", "c"], 9 * SECOND, &value("nine")).unwrap();
    assert_eq!(report, stored(1, 2));
    assert_eq!(write(&first, &view, &["a"], 10 * SECOND, &value("again")).unwrap(), stored(1, 0));
    let skipping = store(&folder.path().join("data/online.db"), true);
    assert_eq!(write(&skipping, &view, &["b"], 10 * SECOND, &value("no")).unwrap(), stored(0, 1));

    let rows = read(&first, &[view], &["a", "b", "c"], 0).unwrap();
    let row = |seconds, name| some(seconds * SECOND, &[&text(name), &text(name)]);
    assert_eq!(rows[0], [row(10, "again"), row(10, "ten"), row(9, "nine")]);
}

#[test]
fn writers_at_once_end_in_the_newest() {
    let folder = TempDir::new().unwrap();
    let view = view("v", 2);
    let shared = prepared(&folder, std::slice::from_ref(&view));
    let path = folder.path().join("data/online.db");

    thread::scope(|scope| {
        for writer in 0..3 {
            let (view, path, shared) = (&view, &path, &shared);
            scope.spawn(move || {
                let own = store(path, false);
                for round in 0..4 {
                    let seconds = (round * 5 + writer * 3) % 12;
                    let store = if round % 2 == 0 { &own } else { shared };
                    write(store, view, &["a", "b"], seconds * SECOND, &text("x")).unwrap();
                }
            });
        }
    });

    let newest = (0..3).flat_map(|writer| (0..4).map(move |round| (round * 5 + writer * 3) % 12));
    let newest: i64 = newest.max().unwrap();
    let rows = read(&shared, &[view], &["a", "b"], 0).unwrap();
    assert_eq!(rows[0], vec![some(newest * SECOND, &[&text("x"), &text("x")]); 2]);
}

#[test]
fn a_file_that_is_locked_is_opened_when_it_is_free() {
    let folder = TempDir::new().unwrap();
    let view = view("v", 1);
    prepared(&folder, std::slice::from_ref(&view));
    let path = folder.path().join("data/online.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();

    thread::scope(|scope| {
        let opened = scope.spawn(|| {
            let store = store(&path, false);
            store.prepare(std::slice::from_ref(&view), &Call::unlimited())?;
            write(&store, &view, &["k"], 0, b"")
        });
        let late = std::time::Instant::now() + 4 * feastrs::call::WAIT_SLICE;
        while std::time::Instant::now() < late && !opened.is_finished() {
            thread::yield_now();
        }
        assert!(!opened.is_finished());
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(opened.join().unwrap().unwrap().written, 1);
    });
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let view = view("v", 1);
    let store = prepared(&folder, std::slice::from_ref(&view));
    let batch = WriteBatch {
        view: &view,
        keys: &packed(["a", "b"]),
        event_timestamps: &[0, 0],
        created_timestamps: None,
        values: &[packed([text("x"), b"\x12\x09short".to_vec()])],
    };

    let error = store.write(&batch, &Call::unlimited()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(error.to_string().contains("'f0'"), "{error}");
    assert_eq!(read(&store, &[view], &["a"], 0).unwrap()[0], [(None, vec![None])]);
}

#[test]
fn a_file_without_the_table_and_no_file_at_all() {
    let folder = TempDir::new().unwrap();
    let (known, unknown) = (view("known", 1), view("unknown", 1));
    let present = prepared(&folder, &[known]);
    let unknown = [unknown];

    let reading = read(&present, &unknown, &["k"], 0).unwrap_err();
    let writing = write(&present, &unknown[0], &["k"], 0, b"").unwrap_err();
    for error in [reading, writing] {
        assert_eq!(error.kind(), ErrorKind::StoreRefused);
        let text = error.to_string();
        assert!(text.contains("'unknown'") && text.contains("feast apply"), "{text}");
    }
    let nowhere = store(&folder.path().join("nowhere.db"), false);
    let error = read(&nowhere, &unknown, &["k"], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    assert!(error.to_string().contains("nowhere.db"), "{error}");
    assert!(!folder.path().join("nowhere.db").exists(), "reading makes no file");
}

#[test]
fn a_file_that_is_no_database() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("broken.db");
    fs::write(&path, "this is no database, it is a text that is long enough to tell").unwrap();
    let (store, view) = (store(&path, false), view("v", 1));

    for error in [
        read(&store, std::slice::from_ref(&view), &["k"], 0).unwrap_err(),
        write(&store, &view, &["k"], 0, b"").unwrap_err(),
        store.prepare(&[view], &Call::unlimited()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::StoreInvalid);
        assert!(error.to_string().contains("broken.db"), "{error}");
    }
}

#[test]
fn a_lock_that_stays_is_an_error_in_time() {
    let folder = TempDir::new().unwrap();
    let view = view("v", 1);
    let store = prepared(&folder, std::slice::from_ref(&view));
    let other = Connection::open(folder.path().join("data/online.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let soon = std::time::Instant::now() + std::time::Duration::from_millis(300);
    let call = Call { deadline: Some(soon), ..Call::unlimited() };

    let error = store.prepare(std::slice::from_ref(&view), &call).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreTimeout);
    let error = write(&store, &view, &["k"], 0, b"").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreTimeout);
    assert!(error.to_string().contains("locked"), "{error}");

    other.execute_batch("COMMIT").unwrap();
    assert_eq!(write(&store, &view, &["k"], 0, b"").unwrap().written, 1);
}

#[test]
fn a_file_that_was_replaced_is_opened_anew() {
    let folder = TempDir::new().unwrap();
    let view = view("v", 1);
    let store = prepared(&folder, std::slice::from_ref(&view));
    write(&store, &view, &["k"], 0, &text("x")).unwrap();
    fs::remove_file(folder.path().join("data/online.db")).unwrap();

    store.prepare(std::slice::from_ref(&view), &Call::unlimited()).unwrap();

    assert_eq!(read(&store, &[view], &["k"], 0).unwrap()[0], [(None, vec![None])]);
}
