//! Replies that arrive in pieces of every size are read like those that arrive at once, through
//! every driver and whatever the receive buffer has to do for them.

use feastrs::config::{ReadCommand, RedisConfig};
use feastrs::store::redis::RedisStore;

use crate::redis_proxy::{Answer, Proxy};
use crate::redis_rows::{Row, read, view, write};
use crate::redis_server::{RedisServer, config};

/// Lengths of values on both sides of every border: of the parser's short way, of a receive
/// buffer, of several.
const LENGTHS: [usize; 10] = [0, 1, 9, 10, 99, 100, 4_000, 16_380, 70_000, 3];

fn value(length: usize) -> Vec<u8> {
    // Line ends within, so that a reader who lost its place would take them for its own.
    b"x\r\n$1\r\n".iter().copied().cycle().take(length).collect()
}

#[test]
fn replies_in_pieces_of_any_size_are_the_same_rows() {
    let server = RedisServer::start();
    let view = view("v", 2);
    let direct = RedisStore::new(&server.config(), "proj").unwrap();
    let keys: Vec<String> = LENGTHS.iter().map(|length| format!("key-{length}")).collect();
    let mut expected: Vec<Row> = Vec::new();
    for (key, length) in keys.iter().zip(LENGTHS) {
        write(&direct, &view, &[key], 1_000_000, &value(length)).unwrap();
        expected.push((Some(1_000_000), vec![Some(value(length)); 2]));
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let proxy = Proxy::start(server.port);

    let (waited_for, looked_for) = ("busy_poll_us=0", "busy_poll_us=65000");
    for (read_command, how) in [
        (ReadCommand::Hgetall, waited_for),
        (ReadCommand::Hmget, waited_for),
        (ReadCommand::Hgetall, looked_for),
    ] {
        let text = format!("127.0.0.1:{},{how}", proxy.port);
        let store =
            RedisStore::new(&RedisConfig { read_command, ..config(&text) }, "proj").unwrap();
        for size in [1, 2, 3, 5, 17, 1_000, 5_000] {
            proxy.set(move |_, reply| Answer::Pieces(reply, size));
            let rows = read(&store, std::slice::from_ref(&view), &keys, 3).unwrap();
            assert!(rows == [expected.clone()], "{read_command:?}, {how}, in pieces of {size}");
        }
    }
}
