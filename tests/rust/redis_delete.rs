//! Deletion from real servers: a view's or a project's rows, whatever else is there, in small
//! steps, and after interruptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use arrow_array::Int64Array;
use feastrs::call::{Call, Interrupt};
use feastrs::config::RedisConfig;
use feastrs::key::{KeyEncoder, KeyShape, KeyVersion};
use feastrs::store::redis::RedisStore;
use feastrs::store::{DeletedView, OnlineStore, Scope, StoredView, WriteBatch};
use feastrs::value::{PackedBytes, ValueType};
use feastrs::{Error, ErrorKind, Result};

use crate::redis_cluster_server::RedisCluster;
use crate::redis_rows::{packed, view};
use crate::redis_server::{RedisServer, Reply};

const ENTITIES: usize = 2_000;

fn keys(join_key: &str, count: usize) -> PackedBytes {
    let encoder =
        KeyEncoder::new(KeyVersion::V3, &[(join_key.to_owned(), ValueType::Int64)]).unwrap();
    let ids = Int64Array::from_iter_values(0..count as i64);
    encoder.encode(&[Arc::new(ids)]).unwrap()
}

fn write(config: &RedisConfig, project: &str, view: &StoredView, join_key: &str, count: usize) {
    let store = RedisStore::new(config, project).unwrap();
    let column = packed((0..count).map(|_| b"x"));
    let batch = WriteBatch {
        view,
        keys: &keys(join_key, count),
        event_timestamps: &vec![7; count],
        created_timestamps: None,
        values: &vec![column; view.features.len()],
    };
    assert_eq!(store.write(&batch, &Call::unlimited()).unwrap().written, count as u64);
}

fn of(view: &StoredView, join_key: &str) -> DeletedView {
    DeletedView { stored: view.clone(), keys: KeyShape::new(KeyVersion::V3, [join_key]) }
}

fn delete(
    config: &RedisConfig,
    project: &str,
    views: &[DeletedView],
    scope: Scope,
    call: &Call<'_>,
) -> Result<u64> {
    RedisStore::new(config, project).unwrap().delete(views, scope, call)
}

fn size(server: &RedisServer) -> i64 {
    server.call(&[b"DBSIZE"]).integer()
}

fn fields(server: &RedisServer, project: &str, join_key: &str) -> usize {
    let key = [keys(join_key, 1).get(0), project.as_bytes()].concat();
    server.call(&[b"HLEN", &key]).integer() as usize
}

#[test]
fn only_the_views_rows_of_only_this_project_go() {
    let server = RedisServer::start();
    let config = server.config();
    let (gone, kept) = (view("gone", 3), view("kept", 2));
    for project in ["fraud", "prod_fraud"] {
        write(&config, project, &gone, "driver", ENTITIES);
        write(&config, project, &kept, "driver", ENTITIES / 2);
        write(&config, project, &gone, "driver_id", 10);
    }
    // Not Feast's, though it looks like it.
    let alike = [keys("driver", ENTITIES + 1).get(ENTITIES), b"fraud"].concat();
    server.call(&[b"SET", &alike, b"text"]);

    let call = Call::unlimited();
    let deleted = delete(&config, "fraud", &[of(&gone, "driver")], Scope::Rows, &call).unwrap();

    assert_eq!(deleted, ENTITIES as u64);
    assert_eq!(fields(&server, "fraud", "driver"), 3, "two features and their time");
    assert_eq!(fields(&server, "prod_fraud", "driver"), 7);
    assert_eq!(fields(&server, "fraud", "driver_id"), 4, "other join keys");
    // Half of the entities had nothing else.
    assert_eq!(size(&server), (ENTITIES / 2 + 10 + ENTITIES + 10 + 1) as i64);
    let again = delete(&config, "fraud", &[of(&gone, "driver")], Scope::Rows, &call).unwrap();
    assert_eq!(again, 0);
}

#[test]
fn all_rows_of_a_project_go_and_no_other_projects() {
    let server = RedisServer::start();
    let config = server.config();
    let (one, two) = (view("one", 1), view("two", 2));
    for project in ["fraud", "prod_fraud"] {
        write(&config, project, &one, "driver", ENTITIES);
        write(&config, project, &two, "shop", 10);
    }

    let views = [of(&one, "driver"), of(&two, "shop")];
    let deleted = delete(&config, "fraud", &views, Scope::Entities, &Call::unlimited()).unwrap();

    assert_eq!(deleted, (ENTITIES + 10) as u64);
    assert_eq!(size(&server), (ENTITIES + 10) as i64);
    assert_eq!(fields(&server, "prod_fraud", "shop"), 3);
}

#[test]
fn several_views_of_one_entity_go_in_one_pass() {
    let server = RedisServer::start();
    let config = server.config();
    let views = [view("one", 1), view("two", 2)];
    views.iter().for_each(|view| write(&config, "p", view, "driver", 50));

    let deleted = views.each_ref().map(|view| of(view, "driver"));
    let count = delete(&config, "p", &deleted, Scope::Rows, &Call::unlimited()).unwrap();

    assert_eq!((count, size(&server)), (50, 0));
}

/// Stops at the n-th look.
struct After(AtomicUsize);

impl Interrupt for After {
    fn check(&self) -> Result<()> {
        match self.0.fetch_sub(1, Ordering::Relaxed) {
            0 | usize::MAX => Err(Error::new(ErrorKind::Interrupted, "stopped")),
            _ => Ok(()),
        }
    }
}

#[test]
fn it_can_be_stopped_and_done_again() {
    let server = RedisServer::start();
    let config = server.config();
    let gone = view("gone", 3);
    write(&config, "p", &gone, "driver", ENTITIES);
    let views = [of(&gone, "driver")];

    let stop = After(AtomicUsize::new(3));
    let call = Call { deadline: None, interrupt: &stop };
    let error = delete(&config, "p", &views, Scope::Rows, &call).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let left = size(&server);
    assert!(0 < left, "stopped after some steps");

    let deleted = delete(&config, "p", &views, Scope::Rows, &Call::unlimited()).unwrap();
    assert_eq!((deleted as i64, size(&server)), (left, 0));
}

#[test]
fn every_node_of_a_cluster_is_gone_through() {
    let cluster = RedisCluster::start(3, 0);
    let config = cluster.config();
    let (gone, kept) = (view("gone", 3), view("kept", 2));
    write(&config, "p", &gone, "driver", 300);
    write(&config, "p", &kept, "driver", 100);
    write(&config, "other_p", &gone, "driver", 300);
    let total = || cluster.nodes.iter().map(size).sum::<i64>();

    let call = Call::unlimited();
    let rows = delete(&config, "p", &[of(&gone, "driver")], Scope::Rows, &call).unwrap();
    assert_eq!((rows, total()), (300, 400));
    let whole = delete(&config, "p", &[of(&kept, "driver")], Scope::Entities, &call).unwrap();
    assert_eq!((whole, total()), (100, 300));
}

/// A join key whose entities all have one slot.
const TAGGED: &str = "{t}";

fn slot_of_tagged(cluster: &RedisCluster) -> u32 {
    cluster.nodes[0].call(&[b"CLUSTER", b"KEYSLOT", b"t"]).integer() as u32
}

#[test]
fn keys_of_a_slot_that_is_half_moved_go_from_both_its_nodes() {
    for scope in [Scope::Rows, Scope::Entities] {
        let cluster = RedisCluster::start(3, 0);
        let config = cluster.config();
        let (gone, slot) = (view("gone", 3), slot_of_tagged(&cluster));
        write(&config, "p", &gone, TAGGED, 300);
        write(&config, "p", &gone, "driver", 300);
        let from = cluster.home_of(slot);
        // To the one before and the one behind: whatever the order of the nodes is.
        for to in [(from + 1) % 3, (from + 2) % 3] {
            write(&config, "p", &gone, TAGGED, 300);
            cluster.begin_move(slot, from, to);
            assert_eq!(cluster.move_keys(slot, from, to, 120), 120);

            let views = [of(&gone, TAGGED)];
            let deleted = delete(&config, "p", &views, scope, &Call::unlimited()).unwrap();

            assert_eq!(deleted, 300, "{scope:?}");
            let total: i64 = cluster.nodes.iter().map(size).sum();
            assert_eq!(total, 300, "those of the other join key");
            for node in [from, to] {
                let slot = slot.to_string();
                cluster.nodes[node].call(&[b"CLUSTER", b"SETSLOT", slot.as_bytes(), b"STABLE"]);
            }
        }
    }
}

#[test]
fn keys_that_went_to_a_node_without_slots_go() {
    let cluster = RedisCluster::start(2, 1);
    let config = cluster.config();
    let (gone, slot) = (view("gone", 3), slot_of_tagged(&cluster));
    write(&config, "p", &gone, TAGGED, 300);
    cluster.make_newcomer(2);
    let (from, to) = (cluster.home_of(slot), 2);
    cluster.begin_move(slot, from, to);
    assert_eq!(cluster.move_keys(slot, from, to, 120), 120);

    let views = [of(&gone, TAGGED)];
    let deleted = delete(&config, "p", &views, Scope::Rows, &Call::unlimited()).unwrap();

    assert_eq!(deleted, 300);
    assert_eq!((size(&cluster.nodes[from]), size(&cluster.nodes[to])), (0, 0));
}

#[test]
fn no_key_is_missed_while_slots_move() {
    let cluster = RedisCluster::start(3, 0);
    let config = cluster.config_with(",socket_timeout=20");
    let (gone, slot) = (view("gone", 3), slot_of_tagged(&cluster));
    let mut from = cluster.home_of(slot);
    for turn in 0..12 {
        cluster.agree(slot, from);
        // Others, so that the nodes take a while.
        write(&config, "p", &gone, "driver", ENTITIES);
        write(&config, "p", &gone, TAGGED, 600);
        let to = (from + 1 + turn % 2) % 3;
        let views = [of(&gone, TAGGED), of(&gone, "driver")];
        thread::scope(|scope| {
            cluster.begin_move(slot, from, to);
            let deletion =
                scope.spawn(|| delete(&config, "p", &views, Scope::Rows, &Call::unlimited()));
            while cluster.move_keys(slot, from, to, 7) > 0 {}
            if turn % 3 != 0 {
                cluster.end_move(slot, to);
            }
            deletion.join().unwrap().unwrap();
        });
        assert_eq!(cluster.nodes.iter().map(size).sum::<i64>(), 0, "turn {turn}");
        cluster.end_move(slot, to);
        from = to;
    }
}

#[test]
fn a_server_that_refuses_is_named_with_the_command() {
    let server = RedisServer::start();
    let config = server.config();
    let gone = view("gone", 1);
    write(&config, "p", &gone, "driver", 1);
    assert!(matches!(
        server.call(&[b"ACL", b"SETUSER", b"default", b"-hdel"]),
        Reply::Text(_) | Reply::Bytes(_)
    ));

    let views = [of(&gone, "driver")];
    let error = delete(&config, "p", &views, Scope::Rows, &Call::unlimited()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::StoreDenied, "{error}");
    assert!(error.to_string().contains("HDEL"), "{error}");
}
