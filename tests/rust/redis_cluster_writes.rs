//! Writes to a real Redis Cluster: every row on the node of its slot, the newest of each entity,
//! while slots move, masters die and nodes refuse what they are asked for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use feastrs::ErrorKind;
use feastrs::config::RedisConfig;
use feastrs::store::{StoredView, WriteReport};

use crate::redis_cluster_server::{RedisCluster, eventually};
use crate::redis_many::{calls, names, store};
use crate::redis_rows::{Row, read_blocking, view, write};

fn keys_of(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// What is stored of the keys, read with all patience.
fn rows(config: &RedisConfig, view: &StoredView, keys: &[&str]) -> Vec<Row> {
    let store = store(config);
    read_blocking(&store, std::slice::from_ref(view), keys, view.features.len() + 1)
        .unwrap()
        .remove(0)
}

fn expected(micros: i64, value: &[u8], features: usize, count: usize) -> Vec<Row> {
    vec![(Some(micros), vec![Some(value.to_vec()); features]); count]
}

const ALL: WriteReport = WriteReport { written: 1000, older: 0 };
const NONE: WriteReport = WriteReport { written: 0, older: 1000 };

#[test]
fn the_newest_rows_win_on_every_node() {
    let cluster = RedisCluster::start(3, 0);
    let names = names(1000);
    let keys = keys_of(&names);
    for features in [1, 20, 200] {
        let view = view(&format!("v{features}"), features);
        let store = store(&cluster.config());

        assert_eq!(write(&store, &view, &keys, 5, b"new").unwrap(), ALL);
        assert_eq!(rows(&cluster.config(), &view, &keys), expected(5, b"new", features, 1000));
        assert_eq!(write(&store, &view, &keys, 4, b"older").unwrap(), NONE);
        assert_eq!(write(&store, &view, &keys, 5, b"equal").unwrap(), ALL);
        assert_eq!(write(&store, &view, &keys, 6, b"newer").unwrap(), ALL);
        let one = write(&store, &view, &keys[..1], 7, b"newest").unwrap();
        assert_eq!(one, WriteReport { written: 1, older: 0 });

        let found = rows(&cluster.config(), &view, &keys);
        assert_eq!(found[..1], expected(7, b"newest", features, 1));
        assert_eq!(found[1..], expected(6, b"newer", features, 999));
    }
}

#[test]
fn skip_dedup_and_keys_that_expire() {
    let cluster = RedisCluster::start(3, 0);
    let (view, names) = (view("v", 3), names(1000));
    let keys = keys_of(&names);
    let config = RedisConfig { skip_dedup: true, key_ttl_seconds: Some(1000), ..cluster.config() };
    let store = store(&config);

    assert_eq!(write(&store, &view, &keys, 5, b"new").unwrap(), ALL);
    assert_eq!(write(&store, &view, &keys, 4, b"older").unwrap(), ALL);

    assert_eq!(rows(&config, &view, &keys), expected(4, b"older", 3, 1000));
    let ttl = cluster.call(&[b"TTL", b"key7proj"]).integer();
    assert!((998..=1000).contains(&ttl), "{ttl}");
}

#[test]
fn nodes_that_withhold_commands_are_written_to_all_the_same() {
    let rules = [&["-restore"][..], &["-@scripting"], &["-evalsha"], &["-restore", "-@scripting"]];
    for withheld in rules {
        let cluster = RedisCluster::start(3, 0);
        let (view, names) = (view("v", 3), names(1000));
        let keys = keys_of(&names);
        for node in &cluster.nodes {
            for rule in withheld {
                node.call(&[b"ACL", b"SETUSER", b"default", rule.as_bytes()]);
            }
        }
        let store = store(&cluster.config());

        assert_eq!(write(&store, &view, &keys, 5, b"new").unwrap(), ALL, "{withheld:?}");
        assert_eq!(write(&store, &view, &keys, 4, b"older").unwrap(), NONE, "{withheld:?}");
        assert_eq!(write(&store, &view, &keys, 6, b"newer").unwrap(), ALL, "{withheld:?}");

        assert_eq!(rows(&cluster.config(), &view, &keys), expected(6, b"newer", 3, 1000));
    }
}

#[test]
fn rows_wait_for_a_slot_that_nobody_serves() {
    let cluster = RedisCluster::start(3, 0);
    let (view, names) = (view("v", 3), names(1000));
    let keys = keys_of(&names);
    let slot = cluster.slot_of("key7").to_string();
    let home = &cluster.nodes[cluster.home_of(cluster.slot_of("key7"))];
    for node in &cluster.nodes {
        node.call(&[b"CLUSTER", b"DELSLOTS", slot.as_bytes()]);
    }
    let store = store(&cluster.config());
    // As Redis 7.0 and as 6.2 counts it.
    let slots = |node| calls(node, "cluster|slots") + calls(node, "cluster");
    let asked = || cluster.nodes.iter().map(slots).sum::<u64>();
    let before = asked();

    let report = thread::scope(|scope| {
        let written = scope.spawn(|| write(&store, &view, &keys, 5, b"new").unwrap());
        // The second time, since a row had no node.
        eventually("the slots are asked for twice", || asked() >= before + 2);
        home.call(&[b"CLUSTER", b"ADDSLOTS", slot.as_bytes()]);
        written.join().unwrap()
    });

    assert_eq!(report, ALL);
    assert_eq!(rows(&cluster.config(), &view, &keys), expected(5, b"new", 3, 1000));
}

#[test]
fn a_node_that_forgets_the_script_each_time_is_written_to_without() {
    let cluster = RedisCluster::start_forgetful();
    let (view, names) = (view("v", 3), names(1000));
    let keys = keys_of(&names);
    let is_told = || calls(&cluster.nodes[0], "hget");

    let patient = store(&cluster.config());
    assert_eq!(write(&patient, &view, &keys, 5, b"new").unwrap(), ALL);
    assert_eq!(write(&patient, &view, &keys, 4, b"older").unwrap(), NONE);
    assert_eq!(rows(&cluster.config(), &view, &keys), expected(5, b"new", 3, 1000));
    assert!((1..=4).contains(&is_told()), "{}", is_told());

    // Where transactions are not to be had either, it is an error, and soon.
    let node = &cluster.nodes[0];
    node.call(&[b"ACL", b"SETUSER", b"default", b"-watch"]);
    let error = write(&store(&cluster.config()), &view, &keys, 6, b"newer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreDenied, "{error}");
    assert!(error.to_string().contains("WATCH"), "{error}");
    assert!((1..=7).contains(&is_told()), "{}", is_told());
}

#[test]
fn a_slot_that_moves_is_followed() {
    let cluster = RedisCluster::start(3, 0);
    let view = view("v", 3);
    let names: Vec<String> = (0..1000)
        .map(|key| if key % 5 == 0 { format!("{{tag}}{key}") } else { format!("key{key}") })
        .collect();
    let keys = keys_of(&names);
    let slot = cluster.slot_of("{tag}");
    let from = cluster.home_of(slot);
    let to = (from + 1) % 3;
    let store = store(&cluster.config());
    let mut micros = 1;
    let mut right = || {
        micros += 1;
        let value = micros.to_string();
        assert_eq!(write(&store, &view, &keys, micros, value.as_bytes()).unwrap(), ALL);
        assert_eq!(write(&store, &view, &keys, micros - 1, b"older").unwrap(), NONE);
        let found = rows(&cluster.config(), &view, &keys);
        assert_eq!(found, expected(micros, value.as_bytes(), 3, 1000));
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
fn writers_while_slots_move_and_a_master_dies_lose_no_row() {
    let cluster = RedisCluster::start(3, 1);
    let (view, names) = (view("v", 3), names(200));
    let keys = keys_of(&names);
    let config = cluster.config_with(",socket_timeout=8");
    let store = store(&config);
    write(&store, &view, &keys, 1, b"1").unwrap();
    let slot = cluster.slot_of("key7proj");
    let from = cluster.home_of(slot);
    let (to, victim) = ((from + 1) % 3, (from + 2) % 3);
    let (is_done, writes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let more = |count: usize| {
        let wanted = writes.load(Ordering::Relaxed) + count;
        eventually("writes go on", || writes.load(Ordering::Relaxed) >= wanted);
    };

    // Each writes times of its own: 2, 4, 6, … and 3, 5, 7, …
    let last = thread::scope(|scope| {
        let writers = [2, 3].map(|first| {
            let (store, view, keys) = (&store, &view, &keys);
            let (is_done, writes) = (&is_done, &writes);
            scope.spawn(move || {
                let mut micros = first;
                loop {
                    let is_last = is_done.load(Ordering::Relaxed);
                    let value = micros.to_string();
                    write(store, view, keys, micros, value.as_bytes()).unwrap();
                    writes.fetch_add(1, Ordering::Relaxed);
                    if is_last {
                        return micros;
                    }
                    micros += 2;
                }
            })
        });
        more(10);
        cluster.begin_move(slot, from, to);
        more(10);
        while cluster.move_keys(slot, from, to, 10) > 0 {}
        cluster.end_move(slot, to);
        more(10);
        cluster.nodes[victim].kill();
        more(10);
        is_done.store(true, Ordering::Relaxed);
        writers.map(|writer| writer.join().unwrap()).into_iter().max().unwrap()
    });

    let found = rows(&config, &view, &keys);
    assert_eq!(found, expected(last, last.to_string().as_bytes(), 3, 200));
}
