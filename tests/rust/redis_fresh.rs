//! New entities against a real server: their hash is sent whole, and what is found afterwards
//! is what field by field would have left; a server that refuses costs nothing but time.

use feastrs::config::RedisConfig;
use feastrs::store::WriteReport;

use crate::redis_many::{ROWS, assert_rows, calls, names, store, write_rows};
use crate::redis_rows::{read, view, write};
use crate::redis_server::{RedisServer, config};

#[test]
fn new_entities_are_restored_and_read_back_by_a_server_that_looks_closely() {
    let server = RedisServer::start_with(&["--sanitize-dump-payload", "yes"], None);
    let store = store(&server.config());
    for features in [1, 50, 127, 128, 200] {
        server.call(&[b"FLUSHALL"]);
        let view = view("v", features);

        let report = write_rows(&store, &view, ROWS, 1_700_000_000_123_456);

        assert_eq!(report, WriteReport { written: ROWS as u64, older: 0 });
        assert_rows(&store, &view, ROWS, 1_700_000_000_123_456);
    }
    assert!(calls(&server, "restore") >= 5 * ROWS as u64);
    // A server older than 7.0 does not know listpacks: what was under way is written again.
    assert!(calls(&server, "hset") <= 200, "the rest was not written field by field");
}

#[test]
fn entities_that_are_there_keep_what_other_views_wrote() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let (old, new) = (view("old", 2), view("new", 3));
    let there = names(ROWS / 3);
    let keys: Vec<&str> = there.iter().map(String::as_str).collect();
    write(&store, &old, &keys, 5, b"kept").unwrap();

    let report = write_rows(&store, &new, ROWS, 7);

    assert_eq!(report, WriteReport { written: ROWS as u64, older: 0 });
    assert_rows(&store, &new, ROWS, 7);
    let kept = read(&store, &[old], &keys, 7).unwrap();
    assert!(kept[0].iter().all(|row| row == &(Some(5), vec![Some(b"kept".to_vec()); 2])));
}

#[test]
fn newer_rows_stay_and_equal_ones_are_overwritten() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let view = view("v", 2);
    write_rows(&store, &view, ROWS, 7);

    assert_eq!(write_rows(&store, &view, ROWS, 6), WriteReport { written: 0, older: 300 });
    assert_eq!(write_rows(&store, &view, ROWS, 7), WriteReport { written: 300, older: 0 });
    assert_rows(&store, &view, ROWS, 7);
}

#[test]
fn a_store_full_of_them_is_not_tried_again_and_again() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let view = view("v", 2);
    write_rows(&store, &view, ROWS, 1);
    let before = calls(&server, "restore");

    for micros in 2..12 {
        write_rows(&store, &view, ROWS, micros);
    }

    // One trial of two chunks, and then no more for a while.
    assert!(calls(&server, "restore") - before <= 200);
    assert_rows(&store, &view, ROWS, 11);
}

#[test]
fn keys_expire_as_they_do_when_written_field_by_field() {
    let server = RedisServer::start();
    let store = store(&RedisConfig { key_ttl_seconds: Some(1000), ..server.config() });
    write_rows(&store, &view("v", 2), ROWS, 7);

    let ttl = server.call(&[b"TTL", b"key7proj"]).integer();

    assert!((998..=1000).contains(&ttl), "{ttl}");
}

#[test]
fn without_permission_to_restore_everything_is_written_all_the_same() {
    let server = RedisServer::start();
    server.call(&[b"ACL", b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all", b"-restore"]);
    let store = store(&config(&format!("127.0.0.1:{},username=app,password=pw", server.port)));
    let view = view("v", 3);

    for micros in [7, 8] {
        let report = write_rows(&store, &view, ROWS, micros);
        assert_eq!(report, WriteReport { written: ROWS as u64, older: 0 });
    }

    assert_rows(&store, &view, ROWS, 8);
}

#[test]
fn new_entities_that_can_not_be_restored_are_not_asked_for_one_by_one() {
    let server = RedisServer::start();
    server.call(&[b"ACL", b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all", b"-restore"]);
    let store = store(&config(&format!("127.0.0.1:{},username=app,password=pw", server.port)));
    let (first, second) = (view("first", 3), view("second", 3));
    let many = 5 * ROWS;

    let report = write_rows(&store, &first, many, 7);

    assert_eq!(report, WriteReport { written: many as u64, older: 0 });
    assert!(calls(&server, "hmget") <= 200, "all were asked for");
    // Keys that other views have made are there, and yet new to this one.
    let report = write_rows(&store, &second, many, 7);
    assert_eq!(report, WriteReport { written: many as u64, older: 0 });
    assert_rows(&store, &first, many, 7);
    assert_rows(&store, &second, many, 7);
    assert_eq!(write_rows(&store, &second, many, 6).older, many as u64);
}
