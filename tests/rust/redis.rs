//! The Redis store against a real server: what is written is read, the newest row wins
//! whoever writes, and what goes wrong is a typed error in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use feastrs::ErrorKind;
use feastrs::call::{Call, Interrupt};
use feastrs::config::{ReadCommand, RedisConfig};
use feastrs::store::redis::RedisStore;
use feastrs::store::{OnlineStore, StoredGroup, WriteBatch, WriteReport};

use crate::redis_rows::{Row, Rows, packed, read, read_blocking, view, write};
use crate::redis_server::{RedisServer, Reply, config, free_port};

fn store(config: &RedisConfig) -> RedisStore {
    RedisStore::new(config, "proj").expect("settings that can be used")
}

fn refused(config: &RedisConfig) -> feastrs::Error {
    read(&store(config), &[view("v", 1)], &["k"], 2).expect_err("a refusal")
}

fn some(micros: i64, values: &[&[u8]]) -> Row {
    (Some(micros), values.iter().map(|value| Some(value.to_vec())).collect())
}

#[test]
fn what_is_written_is_read_by_either_command() {
    let server = RedisServer::start();
    let (a, b) = (view("a", 3), view("b", 2));
    let writer = store(&server.config());
    let batch = WriteBatch {
        view: &a,
        keys: &packed(["k1", "k2"]),
        event_timestamps: &[1_700_000_000_123_456, -1],
        created_timestamps: None,
        values: &[packed(["x", ""]), packed(["y\r\n", "z"]), packed([vec![7; 300_000], vec![]])],
    };
    let report = writer.write(&batch, &Call::unlimited()).unwrap();
    assert_eq!(report, WriteReport { written: 2, older: 0 });
    write(&writer, &b, &["k2"], 0, b"b").unwrap();

    for read_command in [ReadCommand::Auto, ReadCommand::Hgetall, ReadCommand::Hmget] {
        let reader = store(&RedisConfig { read_command, ..server.config() });
        // Asked for in another order, with a feature that was never stored.
        let mut asked = a.clone();
        asked.features.reverse();
        asked.features.push(view("later", 1).features.remove(0));
        let rows = read(&reader, &[b.clone(), asked], &["k2", "none", "k1"], 7).unwrap();

        let nothing = |features| (None, vec![None; features]);
        assert_eq!(rows[0], [some(0, &[b"b", b"b"]), nothing(2), nothing(2)]);
        let mut k2 = some(-1, &[b"", b"z", b""]);
        let mut k1 = some(1_700_000_000_123_456, &[&[7; 300_000], b"y\r\n", b"x"]);
        k2.1.push(None);
        k1.1.push(None);
        assert!(rows[1] == [k2, nothing(4), k1], "{read_command:?}");
    }
}

#[test]
fn many_groups_and_more_keys_than_one_chunk() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let names: Vec<String> = (0..3000).map(|index| format!("key-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (wide, narrow) = (view("wide", 40), view("narrow", 1));
    let value = [5; 60];
    assert_eq!(write(&store, &wide, &names, 5, &value).unwrap().written, 3000);
    write(&store, &narrow, &["other"], 6, b"n").unwrap();

    let group = |views, expected_fields| StoredGroup { views, expected_fields };
    let reader = store.reader(&[
        group(vec![wide.clone()], 41),
        group(vec![wide], 41),
        group(Vec::new(), 41),
        group(vec![narrow], 400),
    ]);
    let keys = [packed::<&str>([]), packed(&names), packed(&names), packed(["other"])];
    let mut rows = Rows::default();
    reader.read(&keys, &mut rows, &Call::unlimited()).unwrap();

    assert_eq!(rows.0.keys().copied().collect::<Vec<_>>(), [(1, 0), (3, 0)]);
    assert_eq!(rows.0[&(1, 0)], vec![some(5, &[&value[..]; 40]); 3000]);
    assert_eq!(rows.0[&(3, 0)], [some(6, &[b"n"])]);
}

#[test]
fn the_newest_row_wins() {
    let server = RedisServer::start();
    let (store, view) = (store(&server.config()), view("v", 1));
    let stored = |written, older| WriteReport { written, older };

    assert_eq!(write(&store, &view, &["a", "b"], 10, b"ten").unwrap(), stored(2, 0));
    assert_eq!(write(&store, &view, &["a", "b", "c"], 9, b"nine").unwrap(), stored(1, 2));
    assert_eq!(write(&store, &view, &["a"], 10, b"ten again").unwrap(), stored(1, 0));
    assert_eq!(write(&store, &view, &["b"], 8, b"eight").unwrap(), stored(0, 1));

    let skipping =
        RedisStore::new(&RedisConfig { equal_timestamps_skip: true, ..server.config() }, "proj");
    assert_eq!(write(&skipping.unwrap(), &view, &["b"], 10, b"no").unwrap(), stored(0, 1));
    let rows = read(&store, &[view], &["a", "b", "c"], 2).unwrap();
    assert_eq!(rows[0], [some(10, &[b"ten again"]), some(10, &[b"ten"]), some(9, &[b"nine"])]);
}

#[test]
fn before_the_epoch_and_at_it() {
    let server = RedisServer::start();
    let (store, view) = (store(&server.config()), view("v", 1));

    for (micros, value) in [(-2_500_000, "first"), (-2_400_000, "later"), (0, "epoch")] {
        assert_eq!(write(&store, &view, &["k"], micros, value.as_bytes()).unwrap().written, 1);
    }
    assert_eq!(write(&store, &view, &["k"], -1, b"older").unwrap().older, 1);

    assert_eq!(read(&store, &[view], &["k"], 2).unwrap()[0], [some(0, &[b"epoch"])]);
}

#[test]
fn writers_at_once_end_in_the_newest() {
    let server = RedisServer::start();
    let view = view("v", 3);
    let names: Vec<String> = (0..250).map(|index| format!("key-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();

    thread::scope(|scope| {
        for writer in 0..4i64 {
            let (server, view, names) = (&server, &view, &names);
            scope.spawn(move || {
                let store = store(&server.config());
                for round in 0..6 {
                    // Each writer has the newest rows of some round, and older ones of others.
                    let micros = (round * 7 + writer * 5) % 24;
                    write(&store, view, names, micros, micros.to_string().as_bytes()).unwrap();
                }
            });
        }
    });

    let newest = (0..4).flat_map(|writer| (0..6).map(move |round| (round * 7 + writer * 5) % 24));
    let newest: i64 = newest.max().unwrap();
    let text = newest.to_string();
    let rows = read(&store(&server.config()), &[view], &names, 4).unwrap();
    assert_eq!(rows[0], vec![some(newest, &[text.as_bytes(); 3]); 250]);
}

#[test]
fn keys_live_as_long_as_configured() {
    let server = RedisServer::start();
    let (view, key) = (view("v", 1), b"kproj");
    let ttl = || server.call(&[b"TTL", key]).integer();

    write(&store(&server.config()), &view, &["k"], 1, b"x").unwrap();
    assert_eq!(ttl(), -1);
    let dying = store(&RedisConfig { key_ttl_seconds: Some(100), ..server.config() });
    write(&dying, &view, &["k"], 0, b"ignored").unwrap();
    assert_eq!(ttl(), -1);
    write(&dying, &view, &["k"], 2, b"y").unwrap();
    assert!((99..=100).contains(&ttl()));
}

#[test]
fn without_dedup_the_last_write_stays() {
    let server = RedisServer::start();
    let view = view("v", 2);
    let config = RedisConfig { skip_dedup: true, key_ttl_seconds: Some(50), ..server.config() };
    let names: Vec<String> = (0..350).map(|index| format!("key-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let store = store(&config);

    write(&store, &view, &names, 9, b"new").unwrap();
    let report = write(&store, &view, &names, 1, b"old").unwrap();

    assert_eq!(report, WriteReport { written: 350, older: 0 });
    assert_eq!(read(&store, &[view], &names, 3).unwrap()[0], vec![some(1, &[&b"old"[..]; 2]); 350]);
    assert!(server.call(&[b"TTL", b"key-349proj"]).integer() > 0);
}

#[test]
fn connections_are_reused_and_replaced_when_they_are_stale() {
    let server = RedisServer::start();
    let (store, view) = (store(&server.config()), view("v", 1));
    for _ in 0..5 {
        write(&store, &view, &["k"], 1, b"x").unwrap();
        read(&store, std::slice::from_ref(&view), &["k"], 2).unwrap();
    }
    let connected = |server: &RedisServer| match server.call(&[b"CLIENT", b"LIST"]) {
        Reply::Bytes(list) => list.iter().filter(|byte| **byte == b'\n').count(),
        other => panic!("{other:?}"),
    };
    assert!(connected(&server) <= 3, "one for the store, the others are the test's");

    server.call(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
    assert_eq!(
        read(&store, std::slice::from_ref(&view), &["k"], 2).unwrap()[0],
        [some(1, &[b"x"])]
    );
    server.call(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
    assert_eq!(write(&store, &view, &["k"], 2, b"y").unwrap().written, 1);
}

#[test]
fn a_password_is_needed_and_never_shown() {
    let server = RedisServer::start_with(&["--requirepass", "hunter2"], Some("hunter2"));
    let view = view("v", 1);

    assert_eq!(write(&store(&server.config()), &view, &["k"], 1, b"x").unwrap().written, 1);
    for string in ["password=hunter3", "username=nobody,password=hunter2", "db=0"] {
        let error = refused(&config(&format!("127.0.0.1:{},{string}", server.port)));
        assert_eq!(error.kind(), ErrorKind::StoreDenied, "{error}");
        assert!(!error.to_string().contains("hunter"), "{error}");
        assert!(error.to_string().contains(&format!("127.0.0.1:{}", server.port)), "{error}");
    }
}

#[test]
fn an_acl_without_hgetall_is_served_by_hmget() {
    let server = RedisServer::start();
    let (view, names) = (view("v", 2), ["a", "b", "c"]);
    write(&store(&server.config()), &view, &names, 1, b"x").unwrap();
    server.call(&[b"ACL", b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all", b"-hgetall"]);
    let limited = config(&format!("127.0.0.1:{},username=app,password=pw", server.port));
    let limited_store = store(&limited);

    for _ in 0..2 {
        let rows = read(&limited_store, std::slice::from_ref(&view), &names, 3).unwrap();
        assert_eq!(rows[0], vec![some(1, &[&b"x"[..]; 2]); 3]);
    }
    server.call(&[b"ACL", b"SETUSER", b"app", b"-hmget"]);
    let error = read(&limited_store, &[view], &names, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreDenied, "{error}");
}

#[test]
fn databases_are_apart() {
    let server = RedisServer::start();
    let view = view("v", 1);
    let second = config(&format!("{},db=2,client_name=feastrs", server.connection_string()));

    write(&store(&second), &view, &["k"], 1, b"x").unwrap();

    assert_eq!(server.call(&[b"DBSIZE"]).integer(), 0);
    let nowhere = config(&format!("{},db=99", server.connection_string()));
    let error = refused(&nowhere);
    assert_eq!(error.kind(), ErrorKind::StoreRefused);
    assert!(error.to_string().contains("SELECT"), "{error}");
}

#[test]
fn over_a_unix_socket() {
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join("redis.sock");
    let path = path.to_str().unwrap();
    let _server = RedisServer::start_with(&["--unixsocket", path], None);
    let view = view("v", 1);

    for (micros, text) in [(1, format!("unix_socket_path={path}")), (2, format!("unix://{path}"))] {
        let store = store(&config(&text));
        write(&store, &view, &["k"], micros, b"x").unwrap();
        let rows = read(&store, std::slice::from_ref(&view), &["k"], 2).unwrap();
        assert_eq!(rows[0], [some(micros, &[b"x"])]);
    }
}

#[test]
fn nobody_listens() {
    let port = free_port();

    let error = refused(&config(&format!("127.0.0.1:{port}")));

    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    assert!(error.to_string().starts_with(&format!("can't connect to Redis at 127.0.0.1:{port}")));
}

#[test]
fn a_server_that_does_not_answer_is_given_up_in_time() {
    let server = RedisServer::start();
    let view = view("v", 1);
    let timed = config(&format!("{},socket_timeout=0.4", server.connection_string()));
    let store = store(&timed);
    write(&store, &view, &["k"], 1, b"x").unwrap();

    server.pause(true);
    let started = Instant::now();
    let read_error = read_blocking(&store, std::slice::from_ref(&view), &["k"], 2).unwrap_err();
    let read_time = started.elapsed();
    let write_error = write(&store, &view, &["k"], 2, b"y").unwrap_err();
    let deadline = Call { deadline: Some(Instant::now()), ..Call::unlimited() };
    let late = store.reader(&[]).read(&[], &mut Rows::default(), &deadline).unwrap_err();
    server.pause(false);

    for error in [&read_error, &write_error, &late] {
        assert_eq!(error.kind(), ErrorKind::StoreTimeout, "{error}");
    }
    assert!(read_error.to_string().contains("HGETALL"), "{read_error}");
    assert!(read_time < Duration::from_millis(1000), "{read_time:?}");
    // The late replies belong to connections that are gone: nobody reads them by mistake.
    assert_eq!(write(&store, &view, &["k"], 3, b"z").unwrap().written, 1);
    assert_eq!(read(&store, &[view], &["k"], 2).unwrap()[0], [some(3, &[b"z"])]);
}

#[test]
fn what_is_no_feature_hash_is_named() {
    let server = RedisServer::start();
    let (store, view) = (store(&server.config()), view("v", 1));
    server.call(&[b"SET", b"stringproj", b"x"]);
    server.call(&[b"HSET", b"forgedproj", b"_ts:v", b"\xff\xff"]);

    for key in ["string", "forged"] {
        let shown: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
        let reading = read(&store, std::slice::from_ref(&view), &["fine", key], 2).unwrap_err();
        let writing = write(&store, &view, &["fine", key], 1, b"x").unwrap_err();
        for error in [reading, writing] {
            assert_eq!(error.kind(), ErrorKind::StoreInvalid, "{error}");
            assert!(error.to_string().contains(&shown), "{error}");
        }
    }
    // The connections were in the middle of something; the next call starts afresh.
    assert_eq!(write(&store, &view, &["fine"], 1, b"x").unwrap().written, 1);
}

#[test]
fn a_full_server_says_so() {
    let server = RedisServer::start();
    let (store, view) = (store(&server.config()), view("v", 1));
    server.call(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);

    let error = write(&store, &view, &["k"], 1, b"x").unwrap_err();

    assert_eq!(error.kind(), ErrorKind::StoreRefused);
    assert!(error.to_string().contains("OOM"), "{error}");
}

#[test]
fn a_key_that_others_keep_changing_is_written_all_the_same() {
    let server = RedisServer::start();
    let (store, view) = (store(&server.config()), view("v", 1));
    let names: Vec<String> = (0..100).map(|index| format!("key-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let is_done = AtomicBool::new(false);

    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                server.call(&[b"HINCRBY", b"key-41proj", b"other", b"1"]);
            }
        });
        for micros in 1..40 {
            let report = write(&store, &view, &names, micros, b"x").unwrap();
            assert_eq!(report, WriteReport { written: 100, older: 0 });
        }
        is_done.store(true, Ordering::Relaxed);
    });

    assert_eq!(read(&store, &[view], &names, 2).unwrap()[0], vec![some(39, &[b"x"]); 100]);
}

#[test]
fn a_connection_lost_in_the_middle_loses_no_row() {
    let server = RedisServer::start();
    let view = view("v", 20);
    let names: Vec<String> = (0..5000).map(|index| format!("key-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();

    for skip_dedup in [false, true] {
        let store = store(&RedisConfig { skip_dedup, ..server.config() });
        server.call(&[b"FLUSHALL"]);
        thread::scope(|scope| {
            scope.spawn(|| {
                for wanted in [500, 2500] {
                    while server.call(&[b"DBSIZE"]).integer() < wanted {
                        thread::yield_now();
                    }
                    server.call(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
                }
            });
            write(&store, &view, &names, 7, b"value").unwrap();
        });
        let rows = read(&store, std::slice::from_ref(&view), &names, 21).unwrap();
        assert!(rows[0] == vec![some(7, &[&b"value"[..]; 20]); 5000], "skip_dedup {skip_dedup}");
    }
}

#[test]
fn whoever_waits_can_be_interrupted() {
    struct After(Instant);
    impl Interrupt for After {
        fn check(&self) -> feastrs::Result<()> {
            match Instant::now() < self.0 {
                true => Ok(()),
                false => Err(feastrs::Error::new(ErrorKind::Interrupted, "enough")),
            }
        }
    }
    let server = RedisServer::start();
    let (store, views) = (store(&server.config()), [view("v", 1)]);
    write(&store, &views[0], &["k"], 1, b"x").unwrap();
    let reader = store.reader(&[StoredGroup { views: views.to_vec(), expected_fields: 2 }]);

    server.pause(true);
    let started = Instant::now();
    let after = After(started + Duration::from_millis(150));
    let call = Call { deadline: None, interrupt: &after };
    let error = reader.read(&[packed(["k"])], &mut Rows::default(), &call).unwrap_err();
    let waited = started.elapsed();
    server.pause(false);

    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(waited < Duration::from_millis(600), "{waited:?}");
    assert_eq!(read(&store, &views, &["k"], 2).unwrap()[0], [some(1, &[b"x"])]);
}
