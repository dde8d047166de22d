//! `field_ttl` on a real server: fields expire with their own view's ttl, whichever way they are
//! written; a server that is too old for it says so, and gets nothing.

use feastrs::ErrorKind;
use feastrs::call::now_micros;
use feastrs::config::RedisConfig;
use feastrs::store::StoredView;

use crate::redis_cluster_server::RedisCluster;
use crate::redis_many::{names, store};
use crate::redis_rows::{read, view, write};
use crate::redis_server::{RedisServer, Reply};

const HOUR: i64 = 3_600_000_000;

fn lasting(name: &str, features: usize, ttl_micros: i64) -> StoredView {
    StoredView { ttl_micros: Some(ttl_micros), ..view(name, features) }
}

fn with_field_ttl(config: RedisConfig) -> RedisConfig {
    RedisConfig { field_ttl: true, ..config }
}

fn knows_field_ttl(server: &RedisServer) -> bool {
    match server.call(&[b"HPEXPIRETIME", b"none", b"FIELDS", b"1", b"f"]) {
        Reply::Text(text) => !text.contains("unknown command"),
        _ => true,
    }
}

/// When each field of the view expires, milliseconds since the epoch: -1 is never.
fn expirations(call: impl Fn(&[&[u8]]) -> Reply, key: &str, view: &StoredView) -> Vec<i64> {
    let key = format!("{key}proj");
    let count = (1 + view.features.len()).to_string();
    let mut command: Vec<&[u8]> =
        vec![b"HPEXPIRETIME", key.as_bytes(), b"FIELDS", count.as_bytes(), &view.timestamp_field];
    command.extend(view.features.iter().map(|feature| &feature.field[..]));
    match call(&command) {
        Reply::Array(times) => times.iter().map(Reply::integer).collect(),
        other => panic!("no times: {other:?}"),
    }
}

/// So many rows: by the script, or by transactions, of narrow or of wide rows.
const WAYS: [(usize, usize); 3] = [(1, 3), (60, 3), (60, 20)];

#[test]
fn fields_expire_with_the_ttl_of_their_view() {
    let server = RedisServer::start();
    if !knows_field_ttl(&server) {
        return too_old(&server);
    }
    let now = now_micros() / 1000 * 1000;
    for skip_dedup in [false, true] {
        let config = RedisConfig { skip_dedup, ..with_field_ttl(server.config()) };
        let store = store(&config);
        for (rows, features) in WAYS {
            server.call(&[b"FLUSHALL"]);
            let names = names(rows);
            let keys: Vec<&str> = names.iter().map(String::as_str).collect();
            let (short, long) = (lasting("short", features, HOUR), lasting("long", 2, 9 * HOUR));
            let ever = view("ever", features);
            // Twice, so that rows come upon older ones, too.
            for at in [now - 1000, now] {
                for view in [&short, &long, &ever] {
                    let report = write(&store, view, &keys, at, b"x").unwrap();
                    assert_eq!(report.written as usize, rows);
                }
            }
            for key in [keys[0], keys[rows - 1]] {
                let of = |view: &StoredView| expirations(|command| server.call(command), key, view);
                assert_eq!(of(&short), vec![(now + HOUR) / 1000; 1 + features]);
                assert_eq!(of(&long), vec![(now + 9 * HOUR) / 1000; 3]);
                assert_eq!(of(&ever), vec![-1; 1 + features]);
            }
            let found = read(&store, &[short.clone(), ever.clone()], &keys, 50).unwrap();
            for (time, values) in found.iter().flatten() {
                assert_eq!(*time, Some(now));
                assert!(values.iter().all(|value| value.as_deref() == Some(&b"x"[..])));
            }

            // A row whose time is over is gone at once, and nothing else with it.
            let over = lasting("over", features, HOUR);
            write(&store, &over, &keys, now - 2 * HOUR, b"x").unwrap();
            let left = read(&store, &[over, ever], &keys, 50).unwrap();
            assert!(left[0].iter().all(|(time, _)| time.is_none()));
            assert!(left[1].iter().all(|(time, _)| *time == Some(now)));
        }
    }
}

fn too_old(server: &RedisServer) {
    let store = store(&with_field_ttl(server.config()));
    for (rows, features) in WAYS {
        let names = names(rows);
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        let lasting = lasting("v", features, HOUR);
        let error = write(&store, &lasting, &keys, now_micros(), b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreRefused);
        assert!(error.to_string().contains("; field_ttl needs Redis 7.4 or Valkey 9"), "{error}");
        assert_eq!(server.call(&[b"DBSIZE"]).integer(), 0);
        write(&store, &view("v", features), &keys, now_micros(), b"x").unwrap();
        server.call(&[b"FLUSHALL"]);
    }
}

#[test]
fn fields_expire_in_a_cluster() {
    if !knows_field_ttl(&RedisServer::start()) {
        return;
    }
    let cluster = RedisCluster::start(3, 0);
    let now = now_micros() / 1000 * 1000;
    for skip_dedup in [false, true] {
        let config = RedisConfig { skip_dedup, ..with_field_ttl(cluster.config()) };
        let store = store(&config);
        let view = lasting(if skip_dedup { "blind" } else { "compared" }, 20, HOUR);
        let names = names(60);
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        for at in [now - 1000, now] {
            assert_eq!(write(&store, &view, &keys, at, b"x").unwrap().written, 60);
        }
        for key in keys {
            let times = expirations(|command| cluster.call(command), key, &view);
            assert_eq!(times, vec![(now + HOUR) / 1000; 21]);
        }
    }
}
