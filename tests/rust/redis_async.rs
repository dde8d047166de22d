//! The asynchronous Redis driver against a real server: many reads on one connection, some of
//! which go away, while the server stalls, ends connections or talks nonsense.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use feastrs::store::redis::RedisStore;
use feastrs::store::{OnlineStore, StoreReader, StoredGroup, StoredView};
use feastrs::{Error, ErrorKind, Result, runtime};
use futures_util::future::join_all;

use crate::redis_cluster_server::eventually;
use crate::redis_rows::{Row, Rows, packed, view, write};
use crate::redis_server::{RedisServer, Reply, config};

const KEYS: usize = 400;

/// A store in which key `k<i>` has the value `value-<i>` in its one feature, and its reader.
struct Fixture {
    server: RedisServer,
    store: RedisStore,
    reader: Arc<dyn StoreReader>,
}

impl Fixture {
    fn new(parameters: &str) -> Self {
        let server = RedisServer::start();
        let connection_string = format!("{}{parameters}", server.connection_string());
        let store = RedisStore::new(&config(&connection_string), "proj").unwrap();
        for index in 0..KEYS {
            let (key, value) = (format!("k{index}"), format!("value-{index}"));
            write(&store, &feature_view(), &[&key], 1, value.as_bytes()).unwrap();
        }
        let reader = reader_of(&store);
        Fixture { server, store, reader }
    }

    fn live_clients(&self) -> usize {
        live_clients(&self.server)
    }

    /// Closes the connections, and waits until the server knows.
    fn close(&self) {
        self.store.close();
        eventually("the connections are closed", || self.live_clients() == 0);
    }
}

fn live_clients(server: &RedisServer) -> usize {
    let list = server.call(&[b"CLIENT", b"LIST", b"TYPE", b"normal"]);
    let Reply::Bytes(list) = list else { panic!("no list: {list:?}") };
    // One of them asks.
    String::from_utf8(list).unwrap().lines().count() - 1
}

fn feature_view() -> StoredView {
    view("v", 1)
}

fn reader_of(store: &dyn OnlineStore) -> Arc<dyn StoreReader> {
    store.reader(&[StoredGroup { views: vec![feature_view()], expected_fields: 2 }])
}

fn expected(keys: impl Iterator<Item = usize>) -> Vec<Row> {
    keys.map(|index| (Some(1), vec![Some(format!("value-{index}").into_bytes())])).collect()
}

async fn ask_until(
    reader: &dyn StoreReader,
    keys: impl Iterator<Item = usize>,
    deadline: Option<Instant>,
) -> Result<Vec<Row>> {
    let mut rows = Rows::default();
    let keys = [packed(keys.map(|index| format!("k{index}")))];
    reader.read_async(&keys, &mut rows, deadline).await?;
    Ok(rows.0.remove(&(0, 0)).unwrap_or_default())
}

async fn ask(reader: &dyn StoreReader, keys: impl Iterator<Item = usize>) -> Result<Vec<Row>> {
    ask_until(reader, keys, None).await
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
}

#[test]
fn many_reads_share_a_connection_and_each_gets_its_own_rows() {
    let fixture = Fixture::new("");
    fixture.close();

    block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let reader = fixture.reader.clone();
                tokio::spawn(async move {
                    let mut dice = Dice(task);
                    for _ in 0..200 {
                        let (from, count) = (dice.below(KEYS - 20), dice.below(20));
                        let rows = ask(reader.as_ref(), from..from + count).await.unwrap();
                        assert!(rows == expected(from..from + count), "{rows:?}");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });

    assert_eq!(fixture.live_clients(), 1);
}

#[test]
fn large_reads_take_connections_of_their_own_and_give_them_back() {
    let fixture = Fixture::new("");
    fixture.close();

    block_on(async {
        let large = || ask(fixture.reader.as_ref(), 0..KEYS);
        let (a, b, c) = tokio::join!(large(), large(), ask(fixture.reader.as_ref(), 7..8));
        assert!(a.unwrap() == expected(0..KEYS) && b.unwrap() == expected(0..KEYS));
        assert_eq!(c.unwrap(), expected(7..8));
        assert!(large().await.unwrap() == expected(0..KEYS));
    });

    // One that is shared, and one or two of their own.
    assert!((2..=3).contains(&fixture.live_clients()));
    fixture.close();
    assert_eq!(block_on(ask(fixture.reader.as_ref(), 1..2)).unwrap(), expected(1..2));
}

/// A server does all that came over a connection before it turns to the next: what large reads
/// have under way is what a small one waits for.
#[test]
fn large_reads_together_ask_for_little_at_a_time() {
    let (address, asked) = silent_server();
    let store = RedisStore::new(&config(&address), "proj").unwrap();
    let group = StoredGroup { views: vec![view("wide", 100)], expected_fields: 101 };
    let reader = store.reader(&[group]);

    block_on(async {
        let large = join_all((0..20).map(|_| ask(reader.as_ref(), 0..1000)));
        // All go away at once: one alone would leave its turn to the next.
        assert!(tokio::time::timeout(Duration::from_millis(300), large).await.is_err());
    });

    let asked = String::from_utf8_lossy(&asked.lock().unwrap()).matches("HGETALL").count();
    assert!((1..=100).contains(&asked), "{asked} of 20,000 keys");
}

/// Takes what is said to it and never answers; where that is kept.
fn silent_server() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let all = heard.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, all) = (stream.unwrap(), all.clone());
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count) = stream.read(&mut chunk)
                    && count > 0
                {
                    all.lock().unwrap().extend_from_slice(&chunk[..count]);
                }
            });
        }
    });
    (address, heard)
}

/// Rounds of reads of which some go away at some moment, while the server now stalls and now
/// goes on: those that stay get their own rows, and nothing else, ever.
#[test]
fn reads_that_go_away_take_nothing_from_those_that_stay() {
    let fixture = Fixture::new("");
    let mut dice = Dice(2026);

    block_on(async {
        for round in 0..120 {
            let is_stalled = round % 2 == 0;
            if is_stalled {
                fixture.server.pause(true);
            }
            let mut tasks = Vec::new();
            for _ in 0..40 {
                // Some large, some small, some of nothing.
                let count = [0, 1, 3, 20, 300][dice.below(5)];
                let from = dice.below(KEYS - count);
                let reader = fixture.reader.clone();
                let goes_away = dice.below(2) == 0;
                let task = tokio::spawn(async move {
                    (from, count, ask(reader.as_ref(), from..from + count).await)
                });
                if goes_away && dice.below(3) > 0 {
                    tokio::task::yield_now().await;
                }
                if goes_away {
                    task.abort();
                }
                tasks.push(task);
            }
            if is_stalled {
                for task in tasks.iter().filter(|_| dice.below(4) == 0) {
                    task.abort();
                }
                fixture.server.pause(false);
            }
            for task in tasks {
                match task.await {
                    Ok((from, count, rows)) => {
                        assert!(rows.unwrap() == expected(from..from + count), "round {round}");
                    }
                    Err(gone) => assert!(gone.is_cancelled(), "{gone}"),
                }
            }
        }
    });
}

#[test]
fn a_stalled_server_is_given_up_in_time_and_found_again() {
    let fixture = Fixture::new(",socket_timeout=0.4");

    block_on(async {
        let reader = fixture.reader.as_ref();
        ask(reader, 0..3).await.unwrap();
        fixture.server.pause(true);
        let started = Instant::now();
        let (small, large, gone) = tokio::join!(
            ask(reader, 0..3),
            ask(reader, 0..KEYS),
            tokio::time::timeout(Duration::from_millis(50), ask(reader, 3..4)),
        );
        let took = started.elapsed();
        for error in [small.unwrap_err(), large.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::StoreTimeout, "{error}");
        }
        assert!(gone.is_err(), "a stalled server has answered");
        assert!(took < Duration::from_millis(1500), "{took:?}");
        fixture.server.pause(false);
        assert_eq!(ask(reader, 0..3).await.unwrap(), expected(0..3));
    });
}

/// Who came late to a connection that is given up has its own time, on another connection.
#[test]
fn who_came_late_is_not_given_up_with_who_came_early() {
    let fixture = Fixture::new(",socket_timeout=1");

    block_on(async {
        let reader = fixture.reader.as_ref();
        ask(reader, 0..1).await.unwrap();
        fixture.server.pause(true);
        let early = ask(reader, 0..1);
        let late = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            ask(reader, 5..6).await
        };
        let resume = async {
            tokio::time::sleep(Duration::from_millis(1300)).await;
            fixture.server.pause(false);
        };
        let (early, late, ()) = tokio::join!(early, late, resume);

        assert_eq!(early.unwrap_err().kind(), ErrorKind::StoreTimeout);
        assert_eq!(late.unwrap(), expected(5..6));
    });
}

#[test]
fn a_deadline_ends_a_read_before_its_timeout() {
    let fixture = Fixture::new("");

    block_on(async {
        let reader = fixture.reader.as_ref();
        fixture.server.pause(true);
        let deadline = Instant::now() + Duration::from_millis(200);
        let error = ask_until(reader, 0..1, Some(deadline)).await.unwrap_err();
        fixture.server.pause(false);

        assert_eq!(error.kind(), ErrorKind::StoreTimeout);
        assert!(error.to_string().contains("deadline"), "{error}");
        assert_eq!(ask(reader, 2..4).await.unwrap(), expected(2..4));
    });
}

#[test]
fn connections_that_the_server_ends_are_replaced_under_load() {
    let fixture = Fixture::new("");
    let is_over = AtomicBool::new(false);

    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fixture.server.call(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
                thread::sleep(Duration::from_millis(20));
            }
        });
        block_on(async {
            let tasks: Vec<_> = (0..32)
                .map(|task| {
                    let reader = fixture.reader.clone();
                    tokio::spawn(async move {
                        let mut dice = Dice(task);
                        let mut failed = 0;
                        for _ in 0..100 {
                            let count = [1, 5, 300][dice.below(3)];
                            let from = dice.below(KEYS - count);
                            match ask(reader.as_ref(), from..from + count).await {
                                Ok(rows) => assert!(rows == expected(from..from + count)),
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
                                    failed += 1;
                                }
                            }
                        }
                        failed
                    })
                })
                .collect();
            let mut failed = 0;
            for task in tasks {
                failed += task.await.unwrap();
            }
            // Only a read whose connections were ended three times in a row may fail.
            assert!(failed < 320, "{failed} of 3200 reads failed");
        });
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_acl_without_hgetall_is_served_by_hmget() {
    let fixture = Fixture::new("");
    fixture.server.call(&[b"ACL", b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all", b"-hgetall"]);
    let limited = format!("127.0.0.1:{},username=app,password=pw", fixture.server.port);
    let reader = reader_of(&RedisStore::new(&config(&limited), "proj").unwrap());

    for keys in [0..3, 0..KEYS, 9..10] {
        assert!(block_on(ask(reader.as_ref(), keys.clone())).unwrap() == expected(keys));
    }
}

/// Accepts connections one after the other and answers what comes with `answers[i]`, then
/// closes.
fn impostor(answers: Vec<&'static [u8]>) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move || {
        for answer in answers {
            let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer);
        }
    };
    (address, thread::spawn(serve))
}

fn refused_by(answers: &[&'static [u8]], parameters: &str) -> Error {
    let (address, serving) = impostor(answers.to_vec());
    let store = RedisStore::new(&config(&format!("{address}{parameters}")), "proj").unwrap();
    let error = block_on(ask(reader_of(&store).as_ref(), 0..2)).unwrap_err();
    serving.join().unwrap();
    error
}

#[test]
fn replies_that_are_cut_forged_or_too_many_are_typed_errors() {
    let cut = b"*4\r\n$4\r\n_ts:".as_slice();
    let error = refused_by(&[cut, cut, cut], "");
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");

    for (answer, kind) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), ErrorKind::StoreInvalid),
        (b"*1\r\n$1\r\nx\r\n*0\r\n", ErrorKind::StoreInvalid),
        (b"-ERR out of order\r\n+OK\r\n", ErrorKind::StoreRefused),
    ] {
        let error = refused_by(&[answer], "");
        assert_eq!(error.kind(), kind, "{}: {error}", answer.escape_ascii());
        assert!(error.to_string().contains("127.0.0.1:") || kind != ErrorKind::StoreRefused);
    }
    let error = refused_by(&[b"-WRONGPASS no\r\n"], ",password=hunter2");
    assert_eq!(error.kind(), ErrorKind::StoreDenied, "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_dropped_store_closes_its_connections() {
    let Fixture { server, store, reader } = Fixture::new("");
    block_on(ask(reader.as_ref(), 0..KEYS)).unwrap();
    block_on(ask(reader.as_ref(), 0..1)).unwrap();

    drop((store, reader));

    let started = Instant::now();
    while live_clients(&server) > 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "connections stay open");
    }
}
