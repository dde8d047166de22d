//! Many rows at once, with values of every length, for the tests of bulk writes.

use feastrs::Result;
use feastrs::call::Call;
use feastrs::config::RedisConfig;
use feastrs::store::redis::RedisStore;
use feastrs::store::{OnlineStore, StoredView, WriteBatch, WriteReport};

use crate::redis_rows::{packed, read};
use crate::redis_server::{RedisServer, Reply};

/// Rows of a batch.
pub const ROWS: usize = 300;

/// The first keys.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("key{index}")).collect()
}

/// Values of every length class: empty, short, at the listpack's limit, and beyond it.
pub fn value(row: usize, feature: usize) -> Vec<u8> {
    let length = [0, 1, 9, 63, 64, 65, 300, 20_000][(row + feature) % 8];
    vec![b'a' + (row % 26) as u8; if row.is_multiple_of(3) { length } else { length.min(64) }]
}

/// Values that all fit into a listpack.
pub fn short_value(row: usize, feature: usize) -> Vec<u8> {
    format!("{row}:{feature}").into_bytes()
}

/// Writes the first `rows` keys, all at `micros`.
pub fn write_rows(store: &RedisStore, view: &StoredView, rows: usize, micros: i64) -> WriteReport {
    try_write(store, view, rows, micros, value).expect("a write that succeeds")
}

/// The same with values of one's own, which may fail.
pub fn try_write(
    store: &RedisStore,
    view: &StoredView,
    rows: usize,
    micros: i64,
    value: fn(usize, usize) -> Vec<u8>,
) -> Result<WriteReport> {
    let column =
        |feature: usize| packed((0..rows).map(|row| value(row, feature)).collect::<Vec<_>>());
    let values: Vec<_> = (0..view.features.len()).map(column).collect();
    let batch = WriteBatch {
        view,
        keys: &packed(names(rows)),
        event_timestamps: &vec![micros; rows],
        created_timestamps: None,
        values: &values,
    };
    store.write(&batch, &Call::unlimited())
}

/// The store of the project `proj`.
pub fn store(config: &RedisConfig) -> RedisStore {
    RedisStore::new(config, "proj").expect("settings that can be used")
}

/// How often the server was given a command, and how often it refused.
pub fn calls(server: &RedisServer, command: &str) -> u64 {
    let Reply::Bytes(text) = server.call(&[b"INFO", b"commandstats"]) else { panic!("no text") };
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    let count = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next()?.parse().ok());
    count.unwrap_or(0)
}

/// What [`write_rows`] wrote is there.
pub fn assert_rows(store: &RedisStore, view: &StoredView, rows: usize, micros: i64) {
    assert_written(store, view, rows, micros, value);
}

/// What [`try_write`] wrote is there.
pub fn assert_written(
    store: &RedisStore,
    view: &StoredView,
    rows: usize,
    micros: i64,
    value: fn(usize, usize) -> Vec<u8>,
) {
    let names = names(rows);
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = read(store, std::slice::from_ref(view), &keys, view.features.len() + 1).unwrap();
    for (row, (time, values)) in found[0].iter().enumerate() {
        assert_eq!(*time, Some(micros), "row {row}");
        for (feature, found) in values.iter().enumerate() {
            assert_eq!(found.as_deref(), Some(&value(row, feature)[..]), "row {row} f{feature}");
        }
    }
}
