//! Wide rows of existing entities against a real server: their hash is replaced whole, and what
//! is found afterwards is what field by field would have left.

use std::thread;

use feastrs::config::RedisConfig;
use feastrs::store::WriteReport;

use crate::redis_many::{ROWS, assert_rows, calls, names, store, write_rows};
use crate::redis_rows::{read, view, write};
use crate::redis_server::{RedisServer, Reply, config};

/// Whether the server reads listpacks, which it does from 7.0 on.
fn reads_listpacks(server: &RedisServer) -> bool {
    let Reply::Bytes(text) = server.call(&[b"INFO", b"server"]) else { panic!("no text") };
    let text = String::from_utf8(text).unwrap();
    let version = text.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap();
    version.split('.').next().unwrap().parse::<u32>().unwrap() >= 7
}

#[test]
fn hashes_are_replaced_with_what_other_views_wrote_and_what_they_have_to_live() {
    let server = RedisServer::start_with(&["--sanitize-dump-payload", "yes"], None);
    let store = store(&server.config());
    let (other, wide) = (view("other", 3), view("wide", 20));
    let names = names(ROWS);
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    write(&store, &other, &keys, 5, b"kept").unwrap();
    server.call(&[b"PEXPIRE", b"key7proj", b"5000000000"]);
    server.call(&[b"HSET", b"key8proj", b"a field of nobody's", b"stays"]);

    for micros in 1..=3 {
        let report = write_rows(&store, &wide, ROWS, micros);
        assert_eq!(report, WriteReport { written: ROWS as u64, older: 0 });
    }

    assert_rows(&store, &wide, ROWS, 3);
    write(&store, &wide, &keys, 4, b"new").unwrap();
    let new = read(&store, &[wide], &keys, 24).unwrap();
    assert!(new[0].iter().all(|row| row == &(Some(4), vec![Some(b"new".to_vec()); 20])));
    let kept = read(&store, &[other], &keys, 24).unwrap();
    assert!(kept[0].iter().all(|row| row == &(Some(5), vec![Some(b"kept".to_vec()); 3])));
    let stays = server.call(&[b"HGET", b"key8proj", b"a field of nobody's"]);
    assert_eq!(stays.text(), "stays");
    let left = server.call(&[b"PTTL", b"key7proj"]).integer();
    assert!((4_999_900_000..=5_000_000_000).contains(&left), "{left}");
    assert_eq!(server.call(&[b"TTL", b"key9proj"]).integer(), -1);
    if reads_listpacks(&server) {
        assert!(calls(&server, "hgetall") >= ROWS as u64, "none was read whole");
        // The first of each batch, and those with long values.
        assert!(calls(&server, "hset") < 3 * ROWS as u64, "all were written field by field");
    }
}

#[test]
fn older_rows_do_not_replace_and_equal_ones_do() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let wide = view("wide", 30);
    write_rows(&store, &wide, ROWS, 7);
    write_rows(&store, &wide, ROWS, 8);

    assert_eq!(write_rows(&store, &wide, ROWS, 7), WriteReport { written: 0, older: 300 });
    assert_eq!(write_rows(&store, &wide, ROWS, 8), WriteReport { written: 300, older: 0 });
    assert_rows(&store, &wide, ROWS, 8);
}

#[test]
fn keys_that_are_replaced_live_as_long_as_the_store_says() {
    let server = RedisServer::start();
    let store = store(&RedisConfig { key_ttl_seconds: Some(1000), ..server.config() });
    let wide = view("wide", 20);
    for micros in 1..=3 {
        write_rows(&store, &wide, ROWS, micros);
        server.call(&[b"PERSIST", b"key299proj"]);
    }
    write_rows(&store, &wide, ROWS, 4);

    let ttl = server.call(&[b"TTL", b"key299proj"]).integer();

    assert!((998..=1000).contains(&ttl), "{ttl}");
}

#[test]
fn hashes_that_are_too_wide_are_written_field_by_field() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let (first, second) = (view("first", 100), view("second", 100));
    for micros in 1..=3 {
        write_rows(&store, &first, ROWS, micros);
        write_rows(&store, &second, ROWS, micros);
    }

    assert_rows(&store, &first, ROWS, 3);
    assert_rows(&store, &second, ROWS, 3);
}

#[test]
fn whatever_is_withheld_everything_is_written_all_the_same() {
    for withheld in [&b"-restore"[..], b"-hgetall", b"-pttl"] {
        let server = RedisServer::start();
        let view = view("wide", 20);
        // With all permissions, until it has learned that replacing pays.
        let login = [&b"ACL"[..], b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all"];
        server.call(&login);
        let store = store(&config(&format!("127.0.0.1:{},username=app,password=pw", server.port)));
        write_rows(&store, &view, ROWS, 1);
        write_rows(&store, &view, ROWS, 2);
        server.call(&[b"ACL", b"SETUSER", b"app", withheld]);

        for micros in [3, 4] {
            let report = write_rows(&store, &view, ROWS, micros);
            assert_eq!(report, WriteReport { written: ROWS as u64, older: 0 });
        }

        assert_rows(&store, &view, ROWS, 4);
    }
}

#[test]
fn writers_of_two_views_lose_nothing_of_each_other() {
    let server = RedisServer::start();
    let store = store(&server.config());
    let views = [view("one", 20), view("two", 25)];
    thread::scope(|scope| {
        for view in &views {
            // Twice each: the later rows win, whoever writes them.
            for start in [0, 1] {
                let store = &store;
                scope.spawn(move || {
                    for micros in 1..=20 {
                        write_rows(store, view, ROWS, 2 * micros + start);
                    }
                });
            }
        }
    });

    for view in &views {
        assert_rows(&store, view, ROWS, 41);
    }
}
