//! Small batches against a real server: one script for each row, which decides as a transaction
//! would; a server that takes no scripts costs nothing but time.

use std::thread;

use feastrs::config::RedisConfig;
use feastrs::store::WriteReport;
use feastrs::store::redis::RedisStore;
use feastrs::{ErrorKind, Result};
use proptest::prelude::*;

use crate::redis_many::{assert_rows, calls, store, write_rows};
use crate::redis_rows::{read, view, write};
use crate::redis_server::{RedisServer, config};

const WRITTEN: WriteReport = WriteReport { written: 1, older: 0 };
const OLDER: WriteReport = WriteReport { written: 0, older: 1 };

fn push(store: &RedisStore, micros: i64) -> Result<WriteReport> {
    write(store, &view("v", 3), &["k"], micros, micros.to_string().as_bytes())
}

fn stored(store: &RedisStore) -> (Option<i64>, Option<Vec<u8>>) {
    let mut found = read(store, &[view("v", 3)], &["k"], 4).unwrap().remove(0);
    let (time, mut values) = found.remove(0);
    (time, values.remove(0))
}

#[test]
fn the_newest_row_wins_in_one_trip() {
    let server = RedisServer::start();
    let store = store(&server.config());

    assert_eq!(push(&store, 5).unwrap(), WRITTEN);
    assert_eq!(push(&store, 4).unwrap(), OLDER);
    assert_eq!(push(&store, 5).unwrap(), WRITTEN);
    assert_eq!(push(&store, 6).unwrap(), WRITTEN);

    assert_eq!(stored(&store), (Some(6), Some(b"6".to_vec())));
    assert_eq!((calls(&server, "evalsha"), calls(&server, "watch")), (4, 0));
    server.call(&[b"SCRIPT", b"FLUSH"]);
    assert_eq!(push(&store, 7).unwrap(), WRITTEN);
    assert_eq!(calls(&server, "watch"), 0);
}

#[test]
fn rows_of_an_equal_time_stay_where_the_store_says_so() {
    let server = RedisServer::start();
    let store = store(&RedisConfig { equal_timestamps_skip: true, ..server.config() });

    assert_eq!(push(&store, 5).unwrap(), WRITTEN);
    assert_eq!(push(&store, 5).unwrap(), OLDER);
    assert_eq!(push(&store, 6).unwrap(), WRITTEN);
}

#[test]
fn times_are_compared_whatever_they_are() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let time = prop_oneof![
        any::<i64>(),
        -3_000_000..3_000_000_i64,
        1_700_000_000_000_000..1_700_000_002_000_000_i64,
        Just(0),
        Just(i64::MIN),
        Just(i64::MAX),
    ];
    proptest!(ProptestConfig::with_cases(300), |(first in time.clone(), second in time)| {
        server.call(&[b"FLUSHALL"]);
        prop_assert_eq!(push(&store, first).unwrap(), WRITTEN);
        let expected = if second >= first { WRITTEN } else { OLDER };
        prop_assert_eq!(push(&store, second).unwrap(), expected);
        prop_assert_eq!(stored(&store).0, Some(first.max(second)));
    });
}

#[test]
fn wide_rows_keys_that_expire_and_what_is_no_timestamp() {
    let server = RedisServer::start();
    let store = store(&RedisConfig { key_ttl_seconds: Some(1000), ..server.config() });
    let wide = view("wide", 2500);

    assert_eq!(write_rows(&store, &wide, 3, 7), WriteReport { written: 3, older: 0 });

    assert_rows(&store, &wide, 3, 7);
    let ttl = server.call(&[b"TTL", b"key0proj"]).integer();
    assert!((998..=1000).contains(&ttl), "{ttl}");
    server.call(&[b"HSET", b"kproj", b"_ts:v", b"\xff"]);
    let error = push(&store, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreInvalid);
    assert!(error.to_string().contains("_ts:v"), "{error}");
}

#[test]
fn without_scripts_it_is_a_transaction() {
    for withheld in ["-evalsha", "-script", "-@scripting"] {
        let server = RedisServer::start();
        let login = [&b"ACL"[..], b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all"];
        server.call(&[&login[..], &[withheld.as_bytes()]].concat());
        let store = store(&config(&format!("127.0.0.1:{},username=app,password=pw", server.port)));

        assert_eq!(push(&store, 5).unwrap(), WRITTEN, "{withheld}");
        assert_eq!(push(&store, 4).unwrap(), OLDER, "{withheld}");

        assert_eq!(stored(&store), (Some(5), Some(b"5".to_vec())));
        assert!(calls(&server, "watch") > 0);
    }
}

#[test]
fn everybody_may_write_one_entity_at_once() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let view = view("v", 3);
    thread::scope(|scope| {
        for writer in 0..4_i64 {
            let (store, view) = (&store, &view);
            scope.spawn(move || {
                for turn in 0..50 {
                    let micros = turn * 4 + writer;
                    push(store, micros).unwrap();
                    // The same row among many, by transactions.
                    let mut keys: Vec<String> = (0..40).map(|key| format!("other{key}")).collect();
                    keys.push("k".to_owned());
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    let value = micros.to_string();
                    write(store, view, &keys, micros, value.as_bytes()).unwrap();
                }
            });
        }
    });

    assert_eq!(stored(&store), (Some(199), Some(b"199".to_vec())));
}
