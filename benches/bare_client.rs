//! A bare client: sends prepared commands to a Redis server and reads every reply frame without
//! decoding it. It is the limit that online reads are held against: what remains is the server
//! and the sockets.
//!
//! `bare_client PORT REPLIES SECONDS` takes the commands from standard input and prints, as JSON,
//! the median wall time and the mean CPU time of a round, in seconds.
//!
//! `bare_client write PORT` takes chunks from standard input, each with its length and the number
//! of its commands in front (u32, little endian), sends each once, two of them under way at a
//! time, and prints the wall time.
//!
//! `bare_client serve REPLIES` is the other side: a server that reads `REPLIES` commands and
//! answers with the bytes of standard input, prepared too, so that clients can be measured where
//! no server is in their way. It prints its port, and its CPU seconds when its input ends.
//!
//! Only the standard library: `rustc -O` builds it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;
use std::{env, fs, thread};

const BUFFER: usize = 64 << 20;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut prepared = Vec::new();
    io::stdin().read_to_end(&mut prepared)?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", commands] => serve(prepared, commands.parse()?),
        ["write", port] => write(port.parse()?, &prepared),
        [port, replies, seconds] => {
            measure(port.parse()?, &prepared, replies.parse()?, seconds.parse()?)
        }
        _ => Err("usage: bare_client PORT REPLIES SECONDS | write PORT | serve COMMANDS".into()),
    }
}

fn measure(port: u16, commands: &[u8], replies: usize, seconds: f64) -> Outcome<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    let mut times = Vec::new();
    let (started, cpu_before) = (Instant::now(), cpu_seconds()?);
    while times.len() < 5 || started.elapsed().as_secs_f64() < seconds {
        let round = Instant::now();
        stream.write_all(commands)?;
        receive(&mut stream, &mut buffer, replies)?;
        times.push(round.elapsed().as_secs_f64());
    }
    let cpu = (cpu_seconds()? - cpu_before) / times.len() as f64;
    times.sort_by(f64::total_cmp);
    println!("{{\"wall\": {}, \"cpu\": {cpu}}}", times[times.len() / 2]);
    Ok(())
}

fn write(port: u16, prepared: &[u8]) -> Outcome<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut replies = Replies { buffer: vec![0; BUFFER], filled: 0, at: 0 };
    let (mut rest, mut under_way) = (prepared, None);
    let started = Instant::now();
    while let Some((head, after)) = rest.split_at_checked(8) {
        let length = u32::from_le_bytes(head[..4].try_into()?) as usize;
        let commands = u32::from_le_bytes(head[4..].try_into()?) as usize;
        let (chunk, after) = after.split_at_checked(length).ok_or("a chunk that is cut off")?;
        stream.write_all(chunk)?;
        if let Some(commands) = under_way.replace(commands) {
            replies.receive(&mut stream, commands)?;
        }
        rest = after;
    }
    if let Some(commands) = under_way {
        replies.receive(&mut stream, commands)?;
    }
    println!("{{\"wall\": {}}}", started.elapsed().as_secs_f64());
    Ok(())
}

/// Replies as they come, those of the next chunk behind those of this.
struct Replies {
    buffer: Vec<u8>,
    filled: usize,
    at: usize,
}

impl Replies {
    fn receive(&mut self, stream: &mut TcpStream, replies: usize) -> Outcome<()> {
        let mut whole = 0;
        loop {
            while whole < replies
                && let Some(end) = frame_end(&self.buffer[..self.filled], self.at)
            {
                if self.buffer[self.at] == b'-' {
                    return Err(String::from_utf8_lossy(&self.buffer[self.at..end]).into());
                }
                (self.at, whole) = (end, whole + 1);
            }
            if whole == replies {
                break;
            }
            let count = stream.read(&mut self.buffer[self.filled..])?;
            if count == 0 {
                return Err("the server closed the connection".into());
            }
            self.filled += count;
        }
        self.buffer.copy_within(self.at..self.filled, 0);
        (self.filled, self.at) = (self.filled - self.at, 0);
        Ok(())
    }
}

fn receive(stream: &mut TcpStream, buffer: &mut [u8], replies: usize) -> Outcome<()> {
    let (mut filled, mut at, mut whole) = (0, 0, 0);
    while whole < replies {
        let count = stream.read(&mut buffer[filled..])?;
        if count == 0 {
            return Err("the server closed the connection".into());
        }
        filled += count;
        while whole < replies
            && let Some(end) = frame_end(&buffer[..filled], at)
        {
            (at, whole) = (end, whole + 1);
        }
    }
    Ok(())
}

/// Where the reply (or command) that begins at `at` ends; `None` while bytes are missing.
fn frame_end(data: &[u8], mut at: usize) -> Option<usize> {
    let mut left = 1;
    while left > 0 {
        let kind = *data.get(at)?;
        let (mut number, mut end) = (0_usize, at + 1);
        let is_nil = data.get(end) == Some(&b'-');
        while *data.get(end)? != b'\r' {
            number = number.wrapping_mul(10) + usize::from(data[end].wrapping_sub(b'0'));
            end += 1;
        }
        end += 2;
        match kind {
            b'*' if !is_nil => left += number,
            b'$' if !is_nil => end += number + 2,
            _ => {}
        }
        if end > data.len() {
            return None;
        }
        (at, left) = (end, left - 1);
    }
    Some(at)
}

fn serve(replies: Vec<u8>, commands: usize) -> Outcome<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        let (stream, replies) = (stream?, replies.clone());
        // A client that leaves ends its thread.
        thread::spawn(move || answer(stream, &replies, commands).unwrap_or_default());
    }
    Ok(())
}

fn answer(mut stream: TcpStream, replies: &[u8], commands: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    let (mut filled, mut at, mut whole) = (0, 0, 0);
    loop {
        let count = stream.read(&mut buffer[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        while let Some(end) = frame_end(&buffer[..filled], at) {
            (at, whole) = (end, whole + 1);
        }
        if whole == commands {
            stream.write_all(replies)?;
            (filled, at, whole) = (0, 0, 0);
        }
    }
}

/// The CPU time of this process.
fn cpu_seconds() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e9)
}
