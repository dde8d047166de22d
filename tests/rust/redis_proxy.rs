//! A proxy in front of a real server that hands each reply to the test, which may let it
//! through, change it, or cut the connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the client gets.
pub enum Answer {
    /// These bytes, whatever they are.
    Bytes(Vec<u8>),
    /// These bytes, in pieces of so many; after a thousand pieces what is left.
    Pieces(Vec<u8>, usize),
    /// These bytes, and then the end of the connection.
    Cut(Vec<u8>),
}

type Forge = dyn FnMut(&str, Vec<u8>) -> Answer + Send;

/// A running proxy. Its threads end with the test's process.
pub struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    forge: Arc<Mutex<Box<Forge>>>,
    clients: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// In front of the server on this port, changing nothing.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let forge: Arc<Mutex<Box<Forge>>> =
            Arc::new(Mutex::new(Box::new(|_, reply| Answer::Bytes(reply))));
        let clients: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (for_all, known) = (forge.clone(), clients.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let forge = for_all.clone();
                known.lock().expect("no test panics in there").extend(client.try_clone());
                thread::spawn(move || serve(client, server, &forge));
            }
        });
        Proxy { port, forge, clients }
    }

    /// From here on `forge` decides about each reply; it is given the command's name.
    pub fn set(&self, forge: impl FnMut(&str, Vec<u8>) -> Answer + Send + 'static) {
        *self.forge.lock().expect("no test panics in there") = Box::new(forge);
    }

    /// Says this on every connection, unasked.
    pub fn say_to_all(&self, bytes: &[u8]) {
        for mut client in self.clients.lock().expect("no test panics in there").iter() {
            // Those that were closed meanwhile do not matter.
            let _ = client.write_all(bytes);
        }
    }

    /// Lets everything through again.
    pub fn be_honest(&self) {
        self.set(|_, reply| Answer::Bytes(reply));
    }
}

/// One connection, until either side ends it. `None` from a read is such an end.
fn serve(mut client: TcpStream, server: u16, forge: &Mutex<Box<Forge>>) -> Option<()> {
    let mut upstream = TcpStream::connect(("127.0.0.1", server)).ok()?;
    for stream in [&client, &upstream] {
        stream.set_nodelay(true).ok()?;
    }
    let mut commands = BufReader::new(client.try_clone().ok()?);
    let mut replies = BufReader::new(upstream.try_clone().ok()?);
    loop {
        let command = frame(&mut commands)?;
        upstream.write_all(&command).ok()?;
        let reply = frame(&mut replies)?;
        let name = String::from_utf8_lossy(&command).lines().nth(2).unwrap_or("").to_owned();
        let answer = (forge.lock().expect("no test panics in there"))(&name, reply);
        match answer {
            Answer::Bytes(bytes) => client.write_all(&bytes).ok()?,
            Answer::Pieces(bytes, size) => {
                let (pieces, rest) = bytes.split_at(bytes.len().min(size * 1000));
                pieces.chunks(size).try_for_each(|piece| client.write_all(piece)).ok()?;
                client.write_all(rest).ok()?;
            }
            Answer::Cut(bytes) => {
                client.write_all(&bytes).ok()?;
                return client.shutdown(std::net::Shutdown::Both).ok();
            }
        }
    }
}

/// The bytes of one command or reply.
fn frame(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if stream.read_until(b'\n', &mut bytes).ok()? == 0 {
        return None;
    }
    let line = String::from_utf8_lossy(&bytes).into_owned();
    let length: i64 = line.get(1..).and_then(|text| text.trim_end().parse().ok()).unwrap_or(-1);
    match line.chars().next() {
        Some('$') if length >= 0 => {
            stream.take(length as u64 + 2).read_to_end(&mut bytes).ok()?;
        }
        Some('*') => {
            for _ in 0..length {
                bytes.extend(frame(stream)?);
            }
        }
        _ => {}
    }
    Some(bytes)
}
