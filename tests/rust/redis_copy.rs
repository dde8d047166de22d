//! New entities on a real server that withholds RESTORE: their hashes are copied from one that
//! nobody ever sees, unless the server withholds that as well.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use feastrs::ErrorKind;
use feastrs::config::RedisConfig;
use feastrs::store::redis::RedisStore;
use feastrs::store::{StoredView, WriteReport};

use crate::redis_many::{
    ROWS, assert_rows, assert_written, calls, names, short_value, store, try_write, write_rows,
};
use crate::redis_proxy::{Answer, Proxy};
use crate::redis_rows::{read, read_blocking, view, write};
use crate::redis_server::{RedisServer, Reply, config};

/// Rows of which most are sent when it is known already that nothing can be restored.
const MANY: usize = 5 * ROWS;

/// A user `app` who may do everything but `withheld`.
fn limited(server: &RedisServer, withheld: &[&str]) -> RedisConfig {
    let mut command: Vec<&[u8]> = vec![b"ACL", b"SETUSER", b"app", b"reset", b"on", b">pw"];
    command.extend([&b"~*"[..], b"&*", b"+@all"]);
    command.extend(withheld.iter().map(|rule| rule.as_bytes()));
    assert_eq!(server.call(&command).text(), "OK");
    config(&format!("127.0.0.1:{},username=app,password=pw", server.port))
}

fn write_short(store: &RedisStore, view: &StoredView, rows: usize, micros: i64) -> WriteReport {
    try_write(store, view, rows, micros, short_value).expect("a write that succeeds")
}

fn assert_short(store: &RedisStore, view: &StoredView, rows: usize, micros: i64) {
    assert_written(store, view, rows, micros, short_value);
}

fn keys(server: &RedisServer) -> BTreeSet<Vec<u8>> {
    let Reply::Array(keys) = server.call(&[b"KEYS", b"*"]) else { panic!("no list") };
    keys.into_iter()
        .map(|key| match key {
            Reply::Bytes(key) => key,
            other => panic!("{other:?} is no key"),
        })
        .collect()
}

fn expected_keys(rows: usize) -> BTreeSet<Vec<u8>> {
    names(rows).into_iter().map(|name| format!("{name}proj").into_bytes()).collect()
}

#[test]
fn new_entities_are_copied_and_nothing_is_left_behind() {
    let server = RedisServer::start();
    let store = store(&limited(&server, &["-restore"]));
    let view = view("v", 3);

    let report = write_short(&store, &view, MANY, 7);

    assert_eq!(report, WriteReport { written: MANY as u64, older: 0 });
    assert_short(&store, &view, MANY, 7);
    assert_eq!(keys(&server), expected_keys(MANY));
    // All but those that were sent before it was known.
    assert!(calls(&server, "copy") >= MANY as u64 - 200);
    assert!(calls(&server, "hmget") <= 200);
}

#[test]
fn hashes_are_laid_out_as_if_each_had_been_written_alone() {
    let server = RedisServer::start();
    let store = store(&limited(&server, &["-restore"]));
    let plain = RedisServer::start();
    let without = RedisConfig { skip_dedup: true, ..plain.config() };
    let without = crate::redis_many::store(&without);
    for features in [1, 50, 127, 128, 600] {
        server.call(&[b"FLUSHALL"]);
        plain.call(&[b"FLUSHALL"]);
        let view = view("v", features);

        // Values of all lengths, so that short rows follow long ones.
        let report = write_rows(&store, &view, ROWS, 1_700_000_000_123_456);
        write_rows(&without, &view, ROWS, 1_700_000_000_123_456);

        assert_eq!(report, WriteReport { written: ROWS as u64, older: 0 });
        assert_rows(&store, &view, ROWS, 1_700_000_000_123_456);
        for name in names(ROWS) {
            let key = format!("{name}proj");
            let encoding = |server: &RedisServer| {
                server.call(&[b"OBJECT", b"ENCODING", key.as_bytes()]).text().to_owned()
            };
            assert_eq!(encoding(&server), encoding(&plain), "{key} of {features}");
        }
    }
}

#[test]
fn a_server_that_takes_shorter_listpacks_gets_them() {
    let limit = ["--hash-max-ziplist-value", "20"];
    let server = RedisServer::start_with(&limit, None);
    let settings = limited(&server, &["-restore"]);
    let value = |row: usize, _| vec![b'x'; if row.is_multiple_of(50) { 40 } else { row % 20 }];
    for skip_dedup in [false, true] {
        server.call(&[b"FLUSHALL"]);
        let store = store(&RedisConfig { skip_dedup, ..settings.clone() });

        try_write(&store, &view("v", 3), MANY, 1_700_000_000_123_456, value).unwrap();

        for row in 0..MANY {
            let key = format!("key{row}proj");
            let encoding = server.call(&[b"OBJECT", b"ENCODING", key.as_bytes()]);
            let is_table = encoding.text() == "hashtable";
            assert_eq!(is_table, row.is_multiple_of(50), "{row} {skip_dedup}");
        }
    }
}

#[test]
fn entities_that_are_there_keep_what_other_views_wrote() {
    let server = RedisServer::start();
    let store = store(&limited(&server, &["-restore"]));
    let (old, new) = (view("old", 2), view("new", 3));
    // Learns what is withheld.
    write_short(&store, &view("other", 1), ROWS, 1);
    server.call(&[b"FLUSHALL"]);
    let there = names(ROWS / 3);
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    write(&store, &old, &there, 5, b"kept").unwrap();

    let report = write_short(&store, &new, ROWS, 7);

    assert_eq!(report, WriteReport { written: ROWS as u64, older: 0 });
    assert_short(&store, &new, ROWS, 7);
    let kept = read(&store, &[old], &there, 7).unwrap();
    assert!(kept[0].iter().all(|row| row == &(Some(5), vec![Some(b"kept".to_vec()); 2])));
    assert_eq!(keys(&server), expected_keys(ROWS));
}

#[test]
fn newer_rows_stay_and_a_store_full_of_them_is_not_tried_again_and_again() {
    let server = RedisServer::start();
    let store = store(&limited(&server, &["-restore"]));
    let view = view("v", 2);
    write_short(&store, &view, MANY, 7);
    let before = calls(&server, "copy");

    for micros in 2..7 {
        assert_eq!(write_short(&store, &view, MANY, micros).older, MANY as u64);
    }
    assert_eq!(write_short(&store, &view, MANY, 7).written, MANY as u64);

    assert!(calls(&server, "copy") - before <= 200);
    assert_short(&store, &view, MANY, 7);
}

#[test]
fn copies_expire_as_they_do_when_written_field_by_field() {
    let server = RedisServer::start();
    let limited = limited(&server, &["-restore"]);
    let store = store(&RedisConfig { key_ttl_seconds: Some(1000), ..limited });

    write_short(&store, &view("v", 2), MANY, 7);

    for row in [0, 299, 300, 301, 399, 400, MANY - 1] {
        let ttl = server.call(&[b"TTL", format!("key{row}proj").as_bytes()]).integer();
        assert!((998..=1000).contains(&ttl), "{ttl} of row {row}");
    }
}

#[test]
fn whatever_else_is_withheld_everything_is_written_all_the_same() {
    for withheld in [
        &["-restore", "-copy"][..],
        &["-restore", "-copy", "-eval", "-evalsha", "-script"],
        &["-@dangerous"],
        // The least that is enough.
        &["-@all", "+hmget", "+watch", "+unwatch", "+multi", "+hset", "+exec"],
        // No more than the keys of the project.
        &["-restore", "resetkeys", "~*proj"],
        // Nor any that begins otherwise than entities do.
        &["-restore", "resetkeys", "~key*"],
    ] {
        let server = RedisServer::start();
        let store = store(&limited(&server, withheld));
        let view = view("v", 3);

        for micros in [7, 8] {
            let report = write_short(&store, &view, MANY, micros);
            assert_eq!(report, WriteReport { written: MANY as u64, older: 0 }, "{withheld:?}");
        }

        assert_short(&store, &view, MANY, 8);
        assert_eq!(keys(&server), expected_keys(MANY), "{withheld:?}");
        let may_copy = !["-copy", "-@all", "~key*"].iter().any(|rule| withheld.contains(rule));
        assert_eq!(calls(&server, "copy") > 0, may_copy, "{withheld:?}");
    }
}

#[test]
fn without_transactions_nothing_is_written_and_the_error_says_so() {
    for withheld in ["-multi", "-exec"] {
        for restore in ["-restore", "+restore"] {
            let server = RedisServer::start();
            let view = view("v", 3);
            write_short(&store(&server.config()), &view, ROWS, 5);
            let store = store(&limited(&server, &[restore, withheld]));

            let error = try_write(&store, &view, ROWS, 7, short_value).unwrap_err();

            let kinds = [ErrorKind::StoreDenied, ErrorKind::StoreRefused];
            assert!(kinds.contains(&error.kind()), "{error}");
            assert!(error.to_string().contains(&format!("'{}'", &withheld[1..])), "{error}");
            assert_eq!(keys(&server), expected_keys(ROWS));
            // And connections that are left are as new.
            assert_short(&store, &view, ROWS, 5);
        }
    }
}

#[test]
fn large_rows_do_not_travel_in_large_transactions() {
    let server = RedisServer::start();
    let store = store(&limited(&server, &["-restore"]));
    write_short(&store, &view("v", 1), ROWS, 1);
    let before = calls(&server, "exec");

    let report = try_write(&store, &view("large", 1), 200, 7, |_, _| vec![b'x'; 100_000]);

    assert_eq!(report.unwrap().written, 200);
    // About a megabyte each.
    assert!(calls(&server, "exec") - before >= 18);
}

#[test]
fn a_key_that_is_withheld_says_nothing_about_commands() {
    let server = RedisServer::start();
    let store = store(&limited(&server, &["resetkeys", "~key?proj", "~key??proj", "-evalsha"]));
    let view = view("v", 2);
    try_write(&store, &view, 101, 1, short_value).unwrap_err();
    let before = calls(&server, "restore");

    write_short(&store, &view, 100, 2);
    server.call(&[b"FLUSHALL"]);
    for micros in 3..20 {
        write_short(&store, &view, 100, micros);
        server.call(&[b"FLUSHALL"]);
    }

    assert!(calls(&server, "restore") > before);
}

#[test]
fn a_server_that_is_full_takes_no_half_of_a_row() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "noeviction"], None);
    let store = store(&limited(&server, &["-restore"]));
    let view = view("v", 20);
    write_short(&store, &view, ROWS, 7);
    let Reply::Bytes(info) = server.call(&[b"INFO", b"memory"]) else { panic!("no text") };
    let info = String::from_utf8(info).unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let limit = used.parse::<u64>().unwrap() + 300_000;
    server.call(&[b"CONFIG", b"SET", b"maxmemory", limit.to_string().as_bytes()]);
    server.call(&[b"FLUSHALL"]);

    let error = try_write(&store, &view, 20_000, 7, short_value).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::StoreRefused, "{error}");
    assert!(error.to_string().contains("OOM"), "{error}");
    server.call(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    let found = keys(&server);
    assert!(!found.is_empty() && found.len() < 20_000);
    for key in &found {
        let name = std::str::from_utf8(key).unwrap().strip_suffix("proj").unwrap();
        let row: usize = name.strip_prefix("key").unwrap().parse().unwrap();
        let whole = read(&store, std::slice::from_ref(&view), &[name], 21).unwrap();
        assert_eq!(whole[0][0].0, Some(7));
        for (feature, value) in whole[0][0].1.iter().enumerate() {
            assert_eq!(value.as_ref(), Some(&short_value(row, feature)));
        }
    }
    // Afterwards the rest is written.
    assert_eq!(write_short(&store, &view, 20_000, 7).written, 20_000);
}

#[test]
fn what_was_under_way_when_a_connection_broke_is_compared_and_written() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port);
    limited(&server, &["-restore"]);
    let through = format!("127.0.0.1:{},username=app,password=pw", proxy.port);
    let store = store(&config(&through));
    let view = view("v", 3);
    write_short(&store, &view, ROWS, 1);
    for (cut_at, number) in [("MULTI", 1), ("COPY", 120), ("EXEC", 1), ("EXEC", 4)] {
        server.call(&[b"FLUSHALL"]);
        let mut seen = 0;
        proxy.set(move |command, reply| {
            seen += u32::from(command == cut_at);
            match command == cut_at && seen == number {
                true => Answer::Cut(reply[..reply.len() / 2].to_vec()),
                false => Answer::Bytes(reply),
            }
        });

        let report = write_short(&store, &view, MANY, 7);

        assert_eq!(report, WriteReport { written: MANY as u64, older: 0 });
        assert_short(&store, &view, MANY, 7);
        assert_eq!(keys(&server), expected_keys(MANY));
    }
}

#[test]
fn readers_and_writers_beside_it_see_whole_rows_and_only_entities() {
    let server = RedisServer::start();
    let limited = limited(&server, &["-restore"]);
    let view = view("v", 4);
    let rows = 20 * ROWS;
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (limited, view) = (&limited, &view);
                scope.spawn(move || {
                    let store = store(limited);
                    write_short(&store, view, rows, 7 + writer)
                })
            })
            .collect();
        scope.spawn(|| {
            let store = store(&limited);
            while !is_done.load(Ordering::Relaxed) {
                let found =
                    read_blocking(&store, std::slice::from_ref(&view), &["key5", "key3000"], 5)
                        .unwrap();
                for (row, (time, values)) in [5, 3000].into_iter().zip(&found[0]) {
                    let whole = (0..4).map(|feature| Some(short_value(row, feature)));
                    let nothing = vec![None; 4];
                    let is_whole = match time {
                        None => *values == nothing,
                        Some(_) => values.iter().cloned().eq(whole),
                    };
                    assert!(is_whole, "{time:?} {values:?}");
                }
                let strangers = keys(&server).difference(&expected_keys(rows)).count();
                assert_eq!(strangers, 0);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let reports: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        is_done.store(true, Ordering::Relaxed);
        for report in reports {
            assert_eq!(report.written + report.older, rows as u64);
        }
    });
    assert_short(&store(&limited), &view, rows, 9);
}
