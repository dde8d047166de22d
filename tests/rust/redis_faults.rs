//! What a network or a broken server can do to replies: never a wrong value, always an error of
//! a kind, and the next read is right again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use feastrs::ErrorKind;
use feastrs::call::Call;
use feastrs::config::{ReadCommand, RedisConfig};
use feastrs::store::redis::RedisStore;
use feastrs::store::{OnlineStore, StoredGroup, StoredView};

use crate::redis_proxy::{Answer, Proxy};
use crate::redis_rows::{Row, Rows, end_read, packed, read_blocking as read, view, write};
use crate::redis_server::{RedisServer, config};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("key-{index}")).collect()
}

/// Rows whose values tell whose they are.
fn fill(store: &RedisStore, view: &StoredView, keys: &[String]) {
    for key in keys {
        write(store, view, &[key], 1_000_000, key.as_bytes()).unwrap();
    }
}

fn expected(keys: &[String], features: usize) -> Vec<Row> {
    let row = |key: &String| (Some(1_000_000), vec![Some(key.clone().into_bytes()); features]);
    keys.iter().map(row).collect()
}

struct Scene {
    server: RedisServer,
    proxy: Proxy,
    view: StoredView,
    keys: Vec<String>,
}

impl Scene {
    fn new(count: usize) -> Self {
        let server = RedisServer::start();
        let (proxy, view, keys) = (Proxy::start(server.port), view("v", 2), names(count));
        fill(&RedisStore::new(&server.config(), "proj").unwrap(), &view, &keys);
        Scene { server, proxy, view, keys }
    }

    fn store(&self, read_command: ReadCommand) -> RedisStore {
        let text = format!("127.0.0.1:{},socket_timeout=0.3", self.proxy.port);
        RedisStore::new(&RedisConfig { read_command, ..config(&text) }, "proj").unwrap()
    }

    fn read(&self, store: &RedisStore) -> feastrs::Result<Vec<Row>> {
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        Ok(read(store, std::slice::from_ref(&self.view), &keys, 3)?.remove(0))
    }
}

/// Lets time pass, for what is about idleness.
fn pass(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        thread::yield_now();
    }
}

fn replaced(reply: &[u8], from: &str, to: &str) -> Vec<u8> {
    String::from_utf8_lossy(reply).replacen(from, to, 1).into_bytes()
}

#[test]
fn forged_replies_are_errors_and_never_values() {
    let scene = Scene::new(40);
    type Forgery = fn(Vec<u8>) -> Answer;
    let forgeries: &[(&str, Forgery)] = &[
        ("a string shorter than it says", |r| {
            Answer::Bytes(replaced(&r, "$6\r\nkey-20", "$6\r\nkey-2"))
        }),
        ("a string longer than it says", |r| {
            Answer::Bytes(replaced(&r, "$6\r\nkey-20", "$5\r\nkey-20"))
        }),
        ("a length that is none", |r| Answer::Bytes(replaced(&r, "$6\r\nkey-20", "$6x\r\nkey-20"))),
        ("a status in place of a hash", |_| Answer::Bytes(b"+OK\r\n".to_vec())),
        ("a number in place of a hash", |_| Answer::Bytes(b":3\r\n".to_vec())),
        ("a string in place of a hash", |_| Answer::Bytes(b"$6\r\nkey-20\r\n".to_vec())),
        ("nothing in place of a hash", |_| Answer::Bytes(b"*-1\r\n".to_vec())),
        ("an odd number of strings", |_| Answer::Bytes(b"*1\r\n$1\r\nx\r\n".to_vec())),
        ("a number among the values", |_| {
            Answer::Bytes(b"*3\r\n:1\r\n$1\r\nx\r\n$1\r\ny\r\n".to_vec())
        }),
        ("arrays in an array", |_| Answer::Bytes(b"*2\r\n*0\r\n*0\r\n".to_vec())),
        ("too many values", |_| {
            Answer::Bytes(b"*5\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n".to_vec())
        }),
        ("no protocol at all", |_| Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("a reply too many", |r| Answer::Bytes([&r[..], &r[..]].concat())),
        ("half a reply and silence", |r| Answer::Bytes(r[..r.len() / 2].to_vec())),
        ("no reply", |_| Answer::Bytes(Vec::new())),
        ("a refusal", |_| Answer::Bytes(b"-ERR out of order\r\n".to_vec())),
    ];
    for read_command in [ReadCommand::Hgetall, ReadCommand::Hmget] {
        let store = scene.store(read_command);
        for (what, forgery) in forgeries {
            let forgery = *forgery;
            // RESP numbers no replies: one too many in the middle looks like the next one's.
            let value = if *what == "a reply too many" { b"key-39" } else { b"key-20" };
            // By what it says, not by its number: a connection that was given up may still be
            // sending.
            scene.proxy.set(move |_, reply| {
                match reply.windows(value.len()).any(|window| window == value) {
                    true => forgery(reply),
                    false => Answer::Bytes(reply),
                }
            });
            let error = scene.read(&store).expect_err(what);
            let kinds = [ErrorKind::StoreInvalid, ErrorKind::StoreTimeout, ErrorKind::StoreRefused];
            assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
            let node = format!("127.0.0.1:{}", scene.proxy.port);
            let shown = error.to_string();
            assert!(shown.contains(&node) || shown.contains("Redis key"), "{what}: {shown}");

            scene.proxy.be_honest();
            assert_eq!(scene.read(&store).expect(what), expected(&scene.keys, 2), "{what}");
        }
    }
}

#[test]
fn replies_in_the_wrong_order_are_noticed_where_their_shapes_differ() {
    let scene = Scene::new(1);
    let store = scene.store(ReadCommand::Hmget);
    let other = view("w", 5);
    write(&store, &other, &["key-0"], 1, b"other").unwrap();
    let group = |view: &StoredView| StoredGroup { views: vec![view.clone()], expected_fields: 9 };
    let reader = store.reader(&[group(&scene.view), group(&other)]);
    let held: Mutex<Vec<u8>> = Mutex::default();
    scene.proxy.set(move |_, reply| {
        let mut held = held.lock().unwrap();
        match held.is_empty() {
            true => {
                *held = reply;
                Answer::Bytes(Vec::new())
            }
            false => Answer::Bytes([reply, std::mem::take(&mut held)].concat()),
        }
    });

    let keys = [packed(["key-0"]), packed(["key-0"])];
    let error = reader.read(&keys, &mut Rows::default(), &Call::unlimited()).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::StoreInvalid, "{error}");
}

#[test]
fn what_is_said_to_nobody_is_nobodys() {
    let scene = Scene::new(1);
    let store = scene.store(ReadCommand::Hgetall);
    assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2));
    let stray = b"*2\r\n$5\r\n_ts:v\r\n$2\r\n\x08\x01\r\n";
    // With the answer: then nobody knows which of them it is.
    scene.proxy.set(move |_, reply| Answer::Bytes([&reply[..], &stray[..]].concat()));
    assert_eq!(scene.read(&store).unwrap_err().kind(), ErrorKind::StoreInvalid);
    // While nobody listens: it must not be taken for the answer to the next question.
    scene.proxy.be_honest();
    assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2));
    scene.proxy.say_to_all(stray);
    pass(Duration::from_millis(5));
    for _ in 0..3 {
        assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2));
    }
}

#[test]
fn connections_cut_anywhere_lose_no_row() {
    let scene = Scene::new(600);
    for read_command in [ReadCommand::Hgetall, ReadCommand::Hmget] {
        let store = scene.store(read_command);
        for cut_at in [0, 1, 7, 20, 41] {
            // Each of the first connections ends at another reply.
            let seen = AtomicUsize::new(0);
            scene.proxy.set(move |_, reply| {
                let seen = seen.fetch_add(1, Ordering::Relaxed) + 1;
                match seen.is_multiple_of(301) && seen < 1000 {
                    true => Answer::Cut(reply[..cut_at.min(reply.len())].to_vec()),
                    false => Answer::Bytes(reply),
                }
            });
            assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2), "at {cut_at}");
        }
        scene.proxy.set(|_, reply| Answer::Cut(reply[..3].to_vec()));
        let error = scene.read(&store).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
        scene.proxy.be_honest();
    }
}

#[test]
fn what_passes_is_waited_for() {
    let scene = Scene::new(10);
    for text in ["LOADING it is loading", "MASTERDOWN no link", "CLUSTERDOWN down", "TRYAGAIN"] {
        let store = scene.store(ReadCommand::Auto);
        let seen = AtomicUsize::new(0);
        scene.proxy.set(move |_, reply| match seen.fetch_add(1, Ordering::Relaxed) {
            3 | 12 => Answer::Bytes(format!("-{text}\r\n").into_bytes()),
            _ => Answer::Bytes(reply),
        });
        assert_eq!(scene.read(&store).expect(text), expected(&scene.keys, 2));

        scene.proxy.set(move |_, _| Answer::Bytes(format!("-{text}\r\n").into_bytes()));
        let started = Instant::now();
        let error = scene.read(&store).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
        assert!(
            error.to_string().contains(text) && error.to_string().contains("HGETALL"),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_secs(2));
        scene.proxy.be_honest();
    }
}

#[test]
fn no_more_connections_than_allowed() {
    let scene = Scene::new(1);
    let text = format!("127.0.0.1:{},max_connections=1,timeout=0.2", scene.server.port);
    let store = RedisStore::new(&config(&text), "proj").unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2));
                }
            });
        }
    });
    scene.server.pause(true);
    let errors: Vec<feastrs::Error> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let deadline = Some(Instant::now() + Duration::from_secs(1));
                    let group = StoredGroup { views: vec![scene.view.clone()], expected_fields: 3 };
                    let call = Call { deadline, ..Call::unlimited() };
                    let mut rows = Rows::default();
                    store.reader(&[group]).read(&[packed(["key-0"])], &mut rows, &call).unwrap_err()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    scene.server.pause(false);

    assert!(errors.iter().all(|error| error.kind() == ErrorKind::StoreTimeout), "{errors:?}");
    assert!(errors.iter().any(|error| error.to_string().contains("max_connections")), "{errors:?}");
    assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2));
}

#[test]
fn a_connection_that_died_in_its_sleep_is_replaced() {
    let scene = Scene::new(1);
    let text =
        format!("127.0.0.1:{},socket_timeout=0.5,health_check_interval=0.02", scene.proxy.port);
    let store = RedisStore::new(&config(&text), "proj").unwrap();
    assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2));
    // As behind a firewall that forgot the connection: what is sent is never answered.
    let answered = Arc::new(AtomicUsize::new(0));
    let counter = answered.clone();
    scene.proxy.set(move |name, reply| match name {
        "PING" => Answer::Bytes(Vec::new()),
        _ => {
            counter.fetch_add(1, Ordering::Relaxed);
            Answer::Bytes(reply)
        }
    });
    pass(Duration::from_millis(30));

    assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2));
    assert_eq!(answered.load(Ordering::Relaxed), 1);
}

#[test]
fn a_read_that_its_sink_ends_leaves_nothing_behind() {
    let scene = Scene::new(900);
    let store = scene.store(ReadCommand::Auto);

    for after in [0, 1, 500, 899] {
        end_read(&store, &scene.view, &scene.keys, after);
        assert_eq!(scene.read(&store).unwrap(), expected(&scene.keys, 2), "{after}");
    }
}
