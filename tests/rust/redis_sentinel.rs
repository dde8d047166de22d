//! A master that sentinels watch over: found by them, followed when it fails.

use feastrs::ErrorKind;
use feastrs::config::RedisConfig;
use feastrs::store::redis::RedisStore;

use crate::redis_cluster_server::{Watched, eventually};
use crate::redis_rows::{read, read_blocking, view, write};

#[test]
fn reads_and_writes_follow_the_master() {
    let watched = Watched::start("");
    let view = view("v", 2);
    let config = watched.config_with(",socket_timeout=8");
    let store = RedisStore::new(&config, "proj").unwrap();
    let stored = |time: i64, value: &[u8]| vec![(Some(time), vec![Some(value.to_vec()); 2])];
    write(&store, &view, &["k"], 1, b"before").unwrap();
    let get =
        || read(&store, std::slice::from_ref(&view), &["k"], 3).map(|mut rows| rows.remove(0));
    assert_eq!(get().unwrap(), stored(1, b"before"));
    eventually("the replica has it", || watched.servers[1].call(&[b"DBSIZE"]).integer() == 1);

    watched.servers[0].kill();

    // Within the timeout, the failover passes unnoticed.
    let view = std::slice::from_ref(&view);
    let blocking = || read_blocking(&store, view, &["k"], 3).map(|mut rows| rows.remove(0));
    eventually("a new master", || match blocking() {
        Ok(rows) => {
            assert_eq!(rows, stored(1, b"before"));
            true
        }
        Err(error) => {
            assert!(error.is_retryable(), "{error:?}");
            false
        }
    });
    eventually("the new master takes writes", || {
        match write(&store, &view[0], &["k"], 2, b"after") {
            Ok(report) => report.written == 1,
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                false
            }
        }
    });
    assert_eq!(get().unwrap(), stored(2, b"after"));
    assert!(watched.servers[1].call(&[b"ROLE"]) != watched.servers[1].call(&[b"PING"]));
}

#[test]
fn a_master_that_became_a_replica_is_left() {
    let watched = Watched::start("");
    let view = view("v", 1);
    let store = RedisStore::new(&watched.config_with(",socket_timeout=8"), "proj").unwrap();
    write(&store, &view, &["k"], 1, b"x").unwrap();

    let failover = watched.sentinels[0].call(&[b"SENTINEL", b"FAILOVER", b"primary"]);
    assert_eq!(failover.text(), "OK");
    eventually("the other is master", || {
        watched.servers[1].call(&[b"INFO", b"replication"]).text().contains("role:master")
    });
    eventually("writes arrive at the new master", || {
        let outcome = write(&store, &view, &["other"], 1, b"y");
        assert!(outcome.as_ref().err().is_none_or(feastrs::Error::is_retryable), "{outcome:?}");
        watched.servers[1].call(&[b"EXISTS", b"otherproj"]).integer() == 1
    });
}

#[test]
fn sentinels_have_their_own_password_and_know_names() {
    let watched = Watched::start("watchword");
    let view = view("v", 1);
    let own = ",sentinel_kwargs={\"password\":\"watchword\"},socket_timeout=0.5";
    let store = |config: &RedisConfig| RedisStore::new(config, "proj").unwrap();

    write(&store(&watched.config_with(own)), &view, &["k"], 1, b"x").unwrap();
    let error = |config: &RedisConfig| {
        read(&store(config), std::slice::from_ref(&view), &["k"], 2).unwrap_err()
    };
    let denied = error(&watched.config_with(",password=watchword,socket_timeout=0.5"));
    assert_eq!(denied.kind(), ErrorKind::StoreDenied, "{denied}");
    assert!(!denied.to_string().contains("watchword"), "{denied}");
    let config = RedisConfig { sentinel_master: "nobody".to_owned(), ..watched.config_with(own) };
    let unknown = error(&config);
    assert_eq!(unknown.kind(), ErrorKind::StoreRefused, "{unknown}");
    assert!(unknown.to_string().contains("'nobody'"), "{unknown}");
    for sentinel in &watched.sentinels {
        sentinel.kill();
    }
    let gone = error(&watched.config_with(own));
    assert_eq!(gone.kind(), ErrorKind::StoreUnavailable, "{gone}");
    assert!(gone.to_string().contains(&watched.sentinels[0].port.to_string()), "{gone}");
}
