//! Many asynchronous reads of a real Redis Cluster at once: what they share, what one that goes
//! away leaves behind, while nodes stall, slots move and masters die.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use feastrs::call::Call;
use feastrs::store::redis::RedisStore;
use feastrs::store::{OnlineStore, StoreReader, StoredGroup, StoredView};
use feastrs::{ErrorKind, Result, runtime};
use tokio::task::JoinHandle;

use crate::redis_cluster_server::{RedisCluster, eventually};
use crate::redis_rows::{Row, Rows, packed, view};
use crate::redis_server::{RedisServer, Reply};

const KEYS: usize = 1500;

/// A store in which every key `k<i>` has the value `value of k<i>`, and its reader. Every fifth
/// key is of one slot.
struct Fixture {
    cluster: RedisCluster,
    store: RedisStore,
    reader: Arc<dyn StoreReader>,
    clients_before: Vec<usize>,
}

impl Fixture {
    fn new(masters: usize, replicas: usize, parameters: &str) -> Self {
        let cluster = RedisCluster::start(masters, replicas);
        let names: Vec<String> = (0..KEYS).map(name).collect();
        cluster.write(&feature_view(), &names, 1, value_of);
        let store = RedisStore::new(&cluster.config_with(parameters), "proj").unwrap();
        let group = StoredGroup { views: vec![feature_view()], expected_fields: 2 };
        let reader = store.reader(&[group]);
        let clients_before = cluster.nodes.iter().map(live_clients).collect();
        Fixture { cluster, store, reader, clients_before }
    }

    /// How many connections the store has to each node.
    fn connections(&self) -> Vec<usize> {
        let now = self.cluster.nodes.iter().map(live_clients);
        now.zip(&self.clients_before).map(|(now, before)| now.saturating_sub(*before)).collect()
    }
}

/// A task that reads `keys`.
fn spawn(reader: &Arc<dyn StoreReader>, keys: Range<usize>) -> JoinHandle<Result<Vec<Row>>> {
    let reader = reader.clone();
    tokio::spawn(async move { ask(reader.as_ref(), keys).await })
}

/// Reads at random until it is over, 48 at a time; each must be right, or may be refused for
/// the moment. Counted are those that are right.
async fn read_until(reader: &Arc<dyn StoreReader>, is_over: &AtomicBool, right: &AtomicUsize) {
    let mut dice = Dice(48);
    while !is_over.load(Ordering::Relaxed) {
        let ranges: Vec<_> = (0..48).map(|_| dice.range()).collect();
        let tasks: Vec<_> = ranges.iter().map(|keys| spawn(reader, keys.clone())).collect();
        for (keys, task) in ranges.into_iter().zip(tasks) {
            match task.await.unwrap() {
                Ok(rows) => {
                    assert!(rows == expected(keys), "a wrong value");
                    right.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    }
}

fn live_clients(node: &RedisServer) -> usize {
    let list = node.call(&[b"CLIENT", b"LIST", b"TYPE", b"normal"]);
    let Reply::Bytes(list) = list else { panic!("no list: {list:?}") };
    String::from_utf8(list).unwrap().lines().count()
}

fn feature_view() -> StoredView {
    view("v", 2)
}

fn name(index: usize) -> String {
    match index % 5 {
        0 => format!("{{tag}}-{index}"),
        _ => format!("k{index}"),
    }
}

fn value_of(key: &str) -> Vec<u8> {
    format!("value of {key}").into_bytes()
}

fn expected(keys: Range<usize>) -> Vec<Row> {
    keys.map(|index| (Some(1_000_000), vec![Some(value_of(&name(index))); 2])).collect()
}

async fn ask(reader: &dyn StoreReader, keys: Range<usize>) -> Result<Vec<Row>> {
    ask_until(reader, keys, None).await
}

async fn ask_until(
    reader: &dyn StoreReader,
    keys: Range<usize>,
    deadline: Option<Instant>,
) -> Result<Vec<Row>> {
    let mut rows = Rows::default();
    let keys = [packed(keys.map(name))];
    reader.read_async(&keys, &mut rows, deadline).await?;
    Ok(rows.0.remove(&(0, 0)).unwrap_or_default())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    runtime::handle().unwrap().block_on(work)
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }

    /// Mostly a few keys, now and then none, now and then many.
    fn range(&mut self) -> Range<usize> {
        let count = [0, 1, 3, 10, 30, 1000][self.below(6)];
        let from = self.below(KEYS - count);
        from..from + count
    }
}

#[test]
fn reads_in_flight_share_one_connection_to_each_node_and_one_map() {
    let fixture = Fixture::new(3, 0, "");
    for node in &fixture.cluster.nodes {
        node.call(&[b"CONFIG", b"RESETSTAT"]);
    }

    block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let reader = fixture.reader.clone();
                tokio::spawn(async move {
                    let mut dice = Dice(task);
                    for _ in 0..100 {
                        let from = dice.below(KEYS - 20);
                        let keys = from..from + dice.below(20);
                        assert!(
                            ask(reader.as_ref(), keys.clone()).await.unwrap() == expected(keys)
                        );
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });

    assert_eq!(fixture.connections(), [1, 1, 1]);
    // A blocking read finds the map that they have fetched.
    let mut rows = Rows::default();
    fixture.reader.read(&[packed([name(7)])], &mut rows, &Call::unlimited()).unwrap();
    assert_eq!(rows.0[&(0, 0)], expected(7..8));
    assert_eq!(fixture.cluster.nodes.iter().map(maps_told).sum::<usize>(), 1);
}

fn maps_told(node: &RedisServer) -> usize {
    let stats = node.call(&[b"INFO", b"commandstats"]).text();
    let calls = |line: &str| -> Option<usize> {
        line.split_once("calls=")?.1.split(',').next()?.parse().ok()
    };
    // Redis 6.2 counts all commands that begin with CLUSTER as one.
    let lines = stats.lines().filter(|line| line.starts_with("cmdstat_cluster"));
    lines.filter_map(calls).sum()
}

#[test]
fn large_reads_take_connections_of_their_own_and_give_them_back() {
    let fixture = Fixture::new(3, 0, "");

    block_on(async {
        let reader = fixture.reader.as_ref();
        for _ in 0..3 {
            let (a, b, c) =
                tokio::join!(ask(reader, 0..KEYS), ask(reader, 0..KEYS), ask(reader, 7..8));
            assert!(a.unwrap() == expected(0..KEYS) && b.unwrap() == expected(0..KEYS));
            assert_eq!(c.unwrap(), expected(7..8));
        }
        // More than there are connections for, on every node: none waits for another for ever.
        let tasks: Vec<_> = (0..40).map(|_| spawn(&fixture.reader, 0..KEYS)).collect();
        for task in tasks {
            assert!(task.await.unwrap().unwrap() == expected(0..KEYS));
        }
    });

    assert!(fixture.connections().iter().all(|count| (2..=9).contains(count)));
    fixture.store.close();
    eventually("all connections are closed", || fixture.connections() == [0, 0, 0]);
    assert_eq!(block_on(ask(fixture.reader.as_ref(), 1..2)).unwrap(), expected(1..2));
}

/// Rounds of reads of which some go away at some moment, while a node now stalls and now goes
/// on: those that stay get their own rows, and nothing else, ever.
#[test]
fn reads_that_go_away_take_nothing_from_those_that_stay() {
    let fixture = Fixture::new(3, 0, "");
    let mut dice = Dice(2026);

    block_on(async {
        for round in 0..90 {
            let stalled = fixture.cluster.nodes.get(round % 6);
            stalled.inspect(|node| node.pause(true));
            let mut tasks = Vec::new();
            for _ in 0..40 {
                let keys = dice.range();
                let task = spawn(&fixture.reader, keys.clone());
                if dice.below(3) == 0 {
                    tokio::task::yield_now().await;
                }
                if dice.below(2) == 0 {
                    task.abort();
                }
                tasks.push((keys, task));
            }
            if let Some(node) = stalled {
                for (_, task) in tasks.iter().filter(|_| dice.below(4) == 0) {
                    task.abort();
                }
                node.pause(false);
            }
            for (keys, task) in tasks {
                match task.await {
                    Ok(rows) => assert!(rows.unwrap() == expected(keys), "round {round}"),
                    Err(gone) => assert!(gone.is_cancelled(), "{gone}"),
                }
            }
        }
    });
}

#[test]
fn a_slot_that_moves_and_a_master_that_dies_under_reads_in_flight_bring_no_wrong_value() {
    let fixture = Fixture::new(3, 3, ",socket_timeout=8");
    let cluster = &fixture.cluster;
    let slot = cluster.slot_of("{tag}");
    let from = cluster.home_of(slot);
    let (to, victim) = ((from + 1) % 3, (from + 2) % 3);
    let (is_over, right) = (AtomicBool::new(false), AtomicUsize::new(0));
    let reader = &fixture.reader;
    let more = |count: usize| {
        let wanted = right.load(Ordering::Relaxed) + count;
        eventually("reads go on", || right.load(Ordering::Relaxed) >= wanted);
    };

    std::thread::scope(|scope| {
        scope.spawn(|| block_on(read_until(reader, &is_over, &right)));
        more(100);
        cluster.begin_move(slot, from, to);
        while cluster.move_keys(slot, from, to, 30) > 0 {
            more(20);
        }
        cluster.end_move(slot, to);
        more(100);
        cluster.nodes[victim].kill();
        more(200);
        is_over.store(true, Ordering::Relaxed);
    });

    assert!(block_on(ask(fixture.reader.as_ref(), 0..KEYS)).unwrap() == expected(0..KEYS));
}

#[test]
fn replicas_share_the_reads_in_flight_and_are_done_without() {
    let fixture = Fixture::new(2, 2, ",read_from_replicas=true,socket_timeout=8");
    let reads = |node: &RedisServer| {
        let stats = node.call(&[b"INFO", b"commandstats"]).text();
        stats.lines().any(|line| line.starts_with("cmdstat_h"))
    };
    for (index, replica) in fixture.cluster.nodes.iter().enumerate().skip(2) {
        let master = &fixture.cluster.nodes[index % 2];
        let size = |node: &RedisServer| node.call(&[b"DBSIZE"]).integer();
        eventually("a replica has the rows", || size(replica) == size(master));
        replica.call(&[b"CONFIG", b"RESETSTAT"]);
    }
    let (is_over, right) = (AtomicBool::new(false), AtomicUsize::new(0));
    let reader = &fixture.reader;

    std::thread::scope(|scope| {
        scope.spawn(|| block_on(read_until(reader, &is_over, &right)));
        eventually("every node is read from", || fixture.cluster.nodes.iter().all(reads));
        fixture.cluster.nodes[2].kill();
        let wanted = right.load(Ordering::Relaxed) + 300;
        eventually("reads go on", || right.load(Ordering::Relaxed) >= wanted);
        is_over.store(true, Ordering::Relaxed);
    });

    assert!(block_on(ask(fixture.reader.as_ref(), 0..KEYS)).unwrap() == expected(0..KEYS));
}

#[test]
fn who_came_late_is_not_given_up_with_who_came_early() {
    let fixture = Fixture::new(3, 0, ",socket_timeout=1");
    let node = &fixture.cluster.nodes[1];

    block_on(async {
        let reader = fixture.reader.as_ref();
        ask(reader, 0..30).await.unwrap();
        node.pause(true);
        let early = ask(reader, 0..30);
        let late = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            ask(reader, 30..60).await
        };
        let resume = async {
            tokio::time::sleep(Duration::from_millis(1300)).await;
            node.pause(false);
        };
        let (early, late, ()) = tokio::join!(early, late, resume);

        let error = early.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreTimeout, "{error}");
        assert!(error.to_string().contains(&node.port.to_string()), "{error}");
        assert_eq!(late.unwrap(), expected(30..60));
    });
}

#[test]
fn a_deadline_ends_a_read_before_its_timeout() {
    let fixture = Fixture::new(3, 0, "");

    block_on(async {
        let reader = fixture.reader.as_ref();
        // While the map is fetched, and once it is known.
        for _ in 0..2 {
            fixture.cluster.nodes.iter().for_each(|node| node.pause(true));
            let deadline = Instant::now() + Duration::from_millis(200);
            let error = ask_until(reader, 0..9, Some(deadline)).await.unwrap_err();
            fixture.cluster.nodes.iter().for_each(|node| node.pause(false));

            assert_eq!(error.kind(), ErrorKind::StoreTimeout);
            assert!(error.to_string().contains("deadline"), "{error}");
            assert_eq!(ask(reader, 2..40).await.unwrap(), expected(2..40));
        }
    });
}

/// Nobody waits for the timeouts of all who came before.
#[test]
fn nodes_that_never_answer_are_given_up_in_time_by_all() {
    let fixture = Fixture::new(1, 0, ",socket_timeout=0.3,socket_connect_timeout=0.3");
    fixture.cluster.nodes[0].pause(true);

    let started = Instant::now();
    block_on(async {
        let tasks: Vec<_> = (0..64).map(|_| spawn(&fixture.reader, 0..3)).collect();
        for task in tasks {
            let error = task.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StoreTimeout, "{error}");
        }
    });
    let took = started.elapsed();
    fixture.cluster.nodes[0].pause(false);

    assert!(took < Duration::from_secs(4), "{took:?}");
    eventually("it is read from again", || {
        block_on(ask(fixture.reader.as_ref(), 0..9)).is_ok_and(|rows| rows == expected(0..9))
    });
}

#[test]
fn a_dropped_store_closes_its_connections() {
    let fixture = Fixture::new(3, 0, "");
    block_on(ask(fixture.reader.as_ref(), 0..KEYS)).unwrap();
    block_on(ask(fixture.reader.as_ref(), 0..9)).unwrap();
    let Fixture { cluster, store, reader, clients_before } = fixture;

    drop((store, reader));

    eventually("all connections are closed", || {
        cluster.nodes.iter().map(live_clients).eq(clients_before.iter().copied())
    });
}
