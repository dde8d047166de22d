//! Reads of a real Redis Cluster, blocking and asynchronous: rows of every node in the order of
//! the keys, while slots move and masters die.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use feastrs::call::Call;
use feastrs::config::{ReadCommand, RedisConfig, RedisType};
use feastrs::store::redis::RedisStore;
use feastrs::store::{OnlineStore, StoredGroup, StoredView};
use feastrs::{ErrorKind, runtime};

use crate::redis_cluster_server::{RedisCluster, eventually};
use crate::redis_rows::{Row, Rows, end_read, packed, read_async, read_blocking, view};
use crate::redis_server::{RedisServer, config};

fn store(config: &RedisConfig) -> RedisStore {
    RedisStore::new(config, "proj").expect("settings that can be used")
}

/// Every fifth key is of one slot, by a hash tag.
fn names(count: usize) -> Vec<String> {
    let name = |index| match index % 5 {
        0 => format!("{{tag}}-{index}"),
        _ => format!("key-{index}"),
    };
    (0..count).map(name).collect()
}

fn value_of(key: &str) -> Vec<u8> {
    format!("value of {key}").into_bytes()
}

/// The rows of `write`, and none for the keys that begin with `absent`.
fn expected(keys: &[String], features: usize) -> Vec<Row> {
    let row = |key: &String| match key.starts_with("absent") {
        true => (None, vec![None; features]),
        false => (Some(7_000_000), vec![Some(value_of(key)); features]),
    };
    keys.iter().map(row).collect()
}

type Read = fn(&RedisStore, &StoredView, &[String]) -> feastrs::Result<Vec<Row>>;

/// What holds for one driver holds for the other.
const DRIVERS: [Read; 2] = [read_keys, read_keys_async];

fn read_keys(store: &RedisStore, view: &StoredView, keys: &[String]) -> feastrs::Result<Vec<Row>> {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    Ok(read_blocking(store, std::slice::from_ref(view), &keys, view.features.len() + 1)?.remove(0))
}

fn read_keys_async(
    store: &RedisStore,
    view: &StoredView,
    keys: &[String],
) -> feastrs::Result<Vec<Row>> {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    Ok(read_async(store, std::slice::from_ref(view), &keys, view.features.len() + 1)?.remove(0))
}

#[test]
fn rows_of_all_nodes_come_in_the_order_of_the_keys() {
    let cluster = RedisCluster::start(3, 0);
    let (wide, narrow) = (view("wide", 20), view("narrow", 1));
    let mut keys = names(2500);
    cluster.write(&wide, &keys, 7, value_of);
    cluster.write(&narrow, &keys[..50], 7, value_of);
    keys.insert(3, "absent-1".to_owned());
    keys.push("absent-2".to_owned());

    for read_command in [ReadCommand::Hgetall, ReadCommand::Hmget] {
        let store = store(&RedisConfig { read_command, ..cluster.config() });
        for read in DRIVERS {
            assert!(read(&store, &wide, &keys).unwrap() == expected(&keys, 20));
        }
        // Two groups of different widths, and one of nothing.
        let group =
            |view: &StoredView| StoredGroup { views: vec![view.clone()], expected_fields: 9 };
        let reader = store.reader(&[group(&narrow), group(&wide), group(&wide)]);
        let asked = [packed(&keys[..50]), packed::<&str>([]), packed(&keys)];
        let (mut rows, mut awaited) = (Rows::default(), Rows::default());
        reader.read(&asked, &mut rows, &Call::unlimited()).unwrap();
        let handle = runtime::handle().unwrap();
        handle.block_on(reader.read_async(&asked, &mut awaited, None)).unwrap();
        for rows in [rows, awaited] {
            assert_eq!(rows.0[&(0, 0)], expected(&keys[..50], 1));
            assert!(rows.0[&(2, 0)] == expected(&keys, 20));
        }
    }
}

#[test]
fn a_slot_that_moves_is_followed_key_by_key() {
    let cluster = RedisCluster::start(3, 0);
    let view = view("v", 3);
    // More than are under way at once, so that some have been asked for when a slot is found
    // to have moved, and others have not.
    let mut keys = names(2500);
    cluster.write(&view, &keys, 7, value_of);
    // In the moving slot, too: it is nowhere, and either node may be asked for it.
    keys.insert(1, "absent{tag}".to_owned());
    let slot = cluster.slot_of("{tag}");
    let from = cluster.home_of(slot);
    let to = (from + 1) % 3;
    // Each finds out for itself.
    let stores = DRIVERS.map(|read| (read, store(&cluster.config())));
    let right = || {
        for (read, store) in &stores {
            assert!(read(store, &view, &keys).unwrap() == expected(&keys, 3));
        }
    };

    right();
    cluster.begin_move(slot, from, to);
    right();
    assert_eq!(cluster.move_keys(slot, from, to, 120), 120);
    right();
    while cluster.move_keys(slot, from, to, 100) > 0 {}
    right();
    cluster.end_move(slot, to);
    right();
    right();
}

#[test]
fn threads_that_read_while_slots_move_and_a_master_dies_see_no_wrong_value() {
    let cluster = RedisCluster::start(3, 3);
    let view = view("v", 3);
    let keys = names(200);
    cluster.write(&view, &keys, 7, value_of);
    let slot = cluster.slot_of("{tag}");
    let from = cluster.home_of(slot);
    let (to, victim) = ((from + 1) % 3, (from + 2) % 3);
    let store = store(&cluster.config_with(",socket_timeout=8"));
    let (is_done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let expected = expected(&keys, 3);
    let more = |count: usize| {
        let wanted = reads.load(Ordering::Relaxed) + count;
        eventually("reads go on", || reads.load(Ordering::Relaxed) >= wanted);
    };

    thread::scope(|scope| {
        for offset in 0..4 {
            let (store, view, keys, expected) = (&store, &view, &keys, &expected);
            let (is_done, reads) = (&is_done, &reads);
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    let count = 1 + (reads.load(Ordering::Relaxed) * 37 + offset) % keys.len();
                    match DRIVERS[offset % 2](store, view, &keys[..count]) {
                        Ok(rows) => assert!(rows == expected[..count], "a wrong value"),
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        more(10);
        cluster.begin_move(slot, from, to);
        while cluster.move_keys(slot, from, to, 5) > 0 {
            more(2);
        }
        cluster.end_move(slot, to);
        more(10);
        cluster.nodes[victim].kill();
        more(10);
        is_done.store(true, Ordering::Relaxed);
    });

    // With so long a timeout the failover passes unnoticed, and then all is as it was.
    for read in DRIVERS {
        assert_eq!(read(&store, &view, &keys).unwrap(), expected);
    }
}

#[test]
fn replicas_are_read_from_where_that_is_wanted() {
    let cluster = RedisCluster::start(2, 1);
    let view = view("v", 2);
    let keys = names(60);
    cluster.write(&view, &keys, 7, value_of);
    let reads = |node: &RedisServer| {
        let stats = node.call(&[b"INFO", b"commandstats"]).text();
        stats.lines().any(|line| line.starts_with("cmdstat_hgetall"))
    };
    let (plain, spread) =
        (store(&cluster.config()), store(&cluster.config_with(",read_from_replicas=true")));
    for replica in &cluster.nodes[2..] {
        eventually("the replicas have the rows", || {
            replica.call(&[b"DBSIZE"]).integer()
                == cluster.nodes[replica_of(&cluster, replica)].call(&[b"DBSIZE"]).integer()
        });
    }

    for read in DRIVERS {
        cluster.nodes.iter().for_each(|node| drop(node.call(&[b"CONFIG", b"RESETSTAT"])));
        for _ in 0..4 {
            assert_eq!(read(&plain, &view, &keys).unwrap(), expected(&keys, 2));
        }
        assert!(!cluster.nodes[2..].iter().any(reads));
        eventually("every node is read from", || {
            assert_eq!(read(&spread, &view, &keys).unwrap(), expected(&keys, 2));
            cluster.nodes.iter().all(reads)
        });
    }
    cluster.nodes[2].kill();
    for read in DRIVERS.iter().cycle().take(8) {
        assert_eq!(read(&spread, &view, &keys).unwrap(), expected(&keys, 2));
    }
}

fn replica_of(cluster: &RedisCluster, replica: &RedisServer) -> usize {
    let at = cluster.nodes.iter().position(|node| node.port == replica.port).expect("a node");
    at % 2
}

#[test]
fn an_acl_without_hgetall_is_served_by_hmget_on_every_node() {
    let cluster = RedisCluster::start(3, 0);
    let view = view("v", 3);
    let keys = names(1500);
    cluster.write(&view, &keys, 7, value_of);
    // One node minds, the others do not: answers to HGETALL are under way when it says so.
    for (index, node) in cluster.nodes.iter().enumerate() {
        let rule: &[u8] = if index == 1 { b"-hgetall" } else { b"+hgetall" };
        node.call(&[b"ACL", b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all", rule]);
    }
    let limited = cluster.config_with(",username=app,password=pw");
    let stores = DRIVERS.map(|read| (read, store(&limited)));

    for (read, store) in &stores {
        for _ in 0..2 {
            assert!(read(store, &view, &keys).unwrap() == expected(&keys, 3));
        }
    }
    cluster.nodes[2].call(&[b"ACL", b"SETUSER", b"app", b"-hmget"]);
    for (read, store) in &stores {
        let error = read(store, &view, &keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreDenied, "{error}");
        assert!(error.to_string().contains(&cluster.nodes[2].port.to_string()), "{error}");
    }
}

#[test]
fn few_connections_are_shared_without_waiting_for_each_other_for_ever() {
    let cluster = RedisCluster::start(3, 0);
    let view = view("v", 1);
    let keys = names(90);
    cluster.write(&view, &keys, 7, value_of);
    let store = store(&cluster.config_with(",max_connections=1,timeout=20"));
    let expected = expected(&keys, 1);

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    assert_eq!(read_keys(&store, &view, &keys).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn a_node_that_stands_still_is_given_up_in_time() {
    let cluster = RedisCluster::start(2, 0);
    let view = view("v", 1);
    let keys = names(40);
    cluster.write(&view, &keys, 7, value_of);
    let store = store(&cluster.config_with(",socket_timeout=0.4"));
    for read in DRIVERS {
        assert_eq!(read(&store, &view, &keys).unwrap(), expected(&keys, 1));

        cluster.nodes[0].pause(true);
        let error = read(&store, &view, &keys).unwrap_err();
        cluster.nodes[0].pause(false);

        assert_eq!(error.kind(), ErrorKind::StoreTimeout, "{error}");
        assert!(error.to_string().contains(&cluster.nodes[0].port.to_string()), "{error}");
        eventually("the cluster is whole again", || match read(&store, &view, &keys) {
            Ok(rows) => {
                assert_eq!(rows, expected(&keys, 1));
                true
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                false
            }
        });
    }
}

#[test]
fn what_is_no_cluster_and_what_is_one_say_so() {
    let (server, cluster, view) = (RedisServer::start(), RedisCluster::start(2, 0), view("v", 1));
    let keys = names(10);

    let alone = RedisConfig { redis_type: RedisType::Cluster, ..server.config() };
    let standalone = config(&cluster.nodes[0].connection_string());
    let nowhere =
        RedisConfig { redis_type: RedisType::Cluster, ..config("127.0.0.1:1,socket_timeout=0.2") };
    for read in DRIVERS {
        let error = read(&store(&alone), &view, &keys).unwrap_err();
        assert!(error.to_string().contains("CLUSTER SLOTS"), "{error}");
        let error = read(&store(&standalone), &view, &keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.to_string().contains("redis_cluster"), "{error}");
        let error = read(&store(&nowhere), &view, &keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}

#[test]
fn a_key_that_is_sent_in_circles_is_given_up_in_time() {
    let cluster = RedisCluster::start(2, 0);
    let view = view("v", 1);
    let keys = names(40);
    cluster.write(&view, &keys, 7, value_of);
    let slot = cluster.slot_of("{tag}");
    let (from, to) = (cluster.home_of(slot), 1 - cluster.home_of(slot));
    // One says ask the other, and the other knows nothing of it.
    cluster.begin_move_one_sided(slot, from, to);
    let store = store(&cluster.config_with(",socket_timeout=0.5"));
    let circling = [keys.clone(), vec!["absent{tag}".to_owned()]].concat();

    for read in DRIVERS {
        let error = read(&store, &view, &circling).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
        let text = error.to_string();
        assert!(text.contains("ASK") || text.contains("MOVED"), "{error}");
        assert_eq!(read(&store, &view, &keys).unwrap(), expected(&keys, 1));
    }
}

#[test]
fn a_read_that_its_sink_ends_leaves_nothing_behind() {
    let cluster = RedisCluster::start(3, 0);
    let view = view("v", 2);
    let keys = names(900);
    cluster.write(&view, &keys, 7, value_of);
    let store = store(&cluster.config());

    for after in [0, 1, 500, 899] {
        end_read(&store, &view, &keys, after);
        for read in DRIVERS {
            assert!(read(&store, &view, &keys).unwrap() == expected(&keys, 2), "{after}");
        }
    }
}

#[test]
fn connections_lost_on_any_node_at_any_time_lose_no_row() {
    let cluster = RedisCluster::start(3, 0);
    let view = view("v", 4);
    let keys = names(2500);
    cluster.write(&view, &keys, 7, value_of);
    let store = store(&cluster.config());
    let expected = expected(&keys, 4);
    let is_done = AtomicBool::new(false);

    thread::scope(|scope| {
        for node in &cluster.nodes {
            let is_done = &is_done;
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    node.call(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
                    thread::yield_now();
                }
            });
        }
        for read in DRIVERS {
            let (store, view, keys, expected) = (&store, &view, &keys, &expected);
            let is_done = &is_done;
            scope.spawn(move || {
                for count in (100..2500).step_by(200) {
                    match read(store, view, &keys[..count]) {
                        Ok(rows) => assert!(rows == expected[..count], "a wrong value"),
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                }
                is_done.store(true, Ordering::Relaxed);
            });
        }
    });

    for read in DRIVERS {
        assert!(read(&store, &view, &keys).unwrap() == expected);
    }
}
