//! However rows are divided among writers, in whatever order and however often they come, and
//! whatever connections break meanwhile: the store ends with the newest row of each entity.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use feastrs::call::Call;
use feastrs::config::SqliteConfig;
use feastrs::store::redis::RedisStore;
use feastrs::store::sqlite::SqliteStore;
use feastrs::store::{OnlineStore, StoredView, WriteBatch};
use proptest::prelude::*;

use crate::redis_many::calls;
use crate::redis_proxy::{Answer, Proxy};
use crate::redis_rows::{packed, read, text, view};
use crate::redis_server::{RedisServer, config};

/// One row: whose it is, when it was true, and what tells it from others of the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    view: usize,
    entity: usize,
    time: i64,
    mark: u8,
}

/// What the writers do: for each, its rows in the order in which it writes them.
type Work = Vec<Vec<Row>>;

fn views() -> [StoredView; 2] {
    [view("narrow", 2), view("wide", 20)]
}

/// Rows for up to five writers; those of one entity and time differ if `has_equal_times`.
fn work(has_equal_times: bool) -> impl Strategy<Value = Work> {
    let mark = if has_equal_times { 0..4_u8 } else { 0..1 };
    let row = (0..2_usize, 0..70_usize, 1..6_i64, mark);
    let row = row.prop_map(|(view, entity, time, mark)| Row { view, entity, time, mark });
    // Repeats come by themselves: there are few entities and times.
    prop::collection::vec(prop::collection::vec(row, 1..300), 1..5)
}

/// Batches as a writer sends them: of one view, each entity once, small ones and large ones.
fn batches(rows: &[Row]) -> Vec<Vec<Row>> {
    let mut batches: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        let limit = if batches.len().is_multiple_of(3) { 5 } else { 64 };
        let fits = |batch: &Vec<Row>| {
            batch.len() < limit
                && batch.iter().all(|r| r.view == row.view && r.entity != row.entity)
        };
        // Not the last alone: entities soon repeat, and views take turns.
        match batches.iter_mut().find(|batch| fits(batch)) {
            Some(batch) => batch.push(*row),
            None => batches.push(vec![*row]),
        }
    }
    batches
}

fn value(row: &Row, feature: usize) -> Vec<u8> {
    text(&format!("{}:{}:{}:{}:{feature}", row.view, row.entity, row.time, row.mark))
}

/// Writes a batch; what fails is tried again from the beginning, as a job would be.
fn write(store: &dyn OnlineStore, batch: &[Row]) {
    let view = &views()[batch[0].view];
    let values: Vec<_> = (0..view.features.len())
        .map(|feature| packed(batch.iter().map(|row| value(row, feature))))
        .collect();
    let times: Vec<i64> = batch.iter().map(|row| row.time).collect();
    let batch = WriteBatch {
        view,
        keys: &packed(batch.iter().map(|row| format!("entity{}", row.entity))),
        event_timestamps: &times,
        created_timestamps: None,
        values: &values,
    };
    for _ in 0..50 {
        match store.write(&batch, &Call::unlimited()) {
            Ok(_) => return,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    panic!("fifty attempts have failed");
}

/// The newest rows of each view and entity.
fn newest(work: &Work) -> BTreeMap<(usize, usize), Vec<Row>> {
    let mut newest: BTreeMap<(usize, usize), Vec<Row>> = BTreeMap::new();
    for row in work.iter().flatten() {
        let rows = newest.entry((row.view, row.entity)).or_default();
        match rows.first().map(|first| row.time.cmp(&first.time)) {
            Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Equal) => rows.push(*row),
            _ => *rows = vec![*row],
        }
    }
    newest
}

/// Each entity has one of its newest rows, whole.
fn check(store: &dyn OnlineStore, work: &Work) {
    for ((number, entity), rows) in newest(work) {
        let view = views()[number].clone();
        let features = view.features.len();
        let key = format!("entity{entity}");
        let found = read(store, &[view], &[&key], features + 1).unwrap().remove(0).remove(0);
        let is_one = rows.iter().any(|row| {
            let values = (0..features).map(|feature| Some(value(row, feature))).collect();
            found == (Some(row.time), values)
        });
        assert!(is_one, "view {number}, entity {entity}: {found:?} is none of {rows:?}");
    }
}

fn run(writers: &[&dyn OnlineStore], work: &Work) {
    thread::scope(|scope| {
        for (index, rows) in work.iter().enumerate() {
            let store = writers[index % writers.len()];
            scope.spawn(move || batches(rows).iter().for_each(|batch| write(store, batch)));
        }
    });
}

fn on_redis(work: &Work, server: &RedisServer, proxy: &Proxy) {
    static CASE: AtomicU32 = AtomicU32::new(0);
    let project = format!("case{}", CASE.fetch_add(1, Ordering::Relaxed));
    let through_proxy = config(&format!("127.0.0.1:{},socket_timeout=2", proxy.port));
    let direct = RedisStore::new(&server.config(), &project).unwrap();
    let disturbed = RedisStore::new(&through_proxy, &project).unwrap();
    // The same, of a user who may not send hashes whole.
    let limited = format!("127.0.0.1:{},socket_timeout=2,username=app,password=pw", proxy.port);
    let limited = RedisStore::new(&config(&limited), &project).unwrap();

    run(&[&direct, &disturbed, &limited], work);

    check(&direct, work);
}

#[test]
fn writers_of_one_redis_end_in_the_newest_rows() {
    let server = RedisServer::start();
    server.call(&[b"ACL", b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all", b"-restore"]);
    let proxy = Proxy::start(server.port);
    // Every hundredth reply or so is lost, with its connection: nobody knows what was written.
    let count = Mutex::new(0_u32);
    proxy.set(move |_, reply| {
        let mut count = count.lock().unwrap();
        *count = count.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match *count >> 16 {
            number if number.is_multiple_of(97) => Answer::Cut(reply[..reply.len() / 2].to_vec()),
            _ => Answer::Bytes(reply),
        }
    });
    for has_equal_times in [false, true] {
        proptest!(ProptestConfig::with_cases(20), |(work in work(has_equal_times))| {
            on_redis(&work, &server, &proxy);
        });
    }
    for command in ["restore", "copy", "evalsha", "exec"] {
        assert!(calls(&server, command) > 0, "nothing was written by {command}");
    }
}

#[test]
fn writers_of_one_sqlite_file_end_in_the_newest_rows() {
    for has_equal_times in [false, true] {
        proptest!(ProptestConfig::with_cases(8), |(work in work(has_equal_times))| {
            let folder = tempfile::tempdir().unwrap();
            let config = SqliteConfig {
                path: folder.path().join("online.db"),
                equal_timestamps_skip: false,
            };
            let writers = [0, 1].map(|_| SqliteStore::new(&config, "proj"));
            // Whole seconds are what this store keeps.
            let second = |row: &Row| Row { time: row.time * 1_000_000, ..*row };
            let work: Work =
                work.iter().map(|rows| rows.iter().map(second).collect()).collect();
            writers[0].prepare(&views(), &Call::unlimited()).unwrap();

            run(&[&writers[0], &writers[1]], &work);

            check(&writers[0], &work);
        });
    }
}
