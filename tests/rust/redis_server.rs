//! A real Redis server for one test, on a port and in a folder of its own, and a client as
//! plain as can be to look into it. The server ends with the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use feastrs::config::{ReadCommand, RedisConfig, RedisType, Secret};
use tempfile::TempDir;

/// A running server; dropping it kills it.
pub struct RedisServer {
    child: Child,
    // Goes with the server.
    _folder: TempDir,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Where it speaks TLS, if it speaks both.
    pub tls_port: Option<u16>,
    password: Option<String>,
}

impl RedisServer {
    /// Starts the server that `FEASTRS_TEST_REDIS` names, or else the one on the `PATH`.
    pub fn start() -> Self {
        Self::start_with(&[], None)
    }

    /// The same with further arguments, and the password that they ask for.
    pub fn start_with(arguments: &[&str], password: Option<&str>) -> Self {
        let program = std::env::var("FEASTRS_TEST_REDIS").unwrap_or("redis-server".to_owned());
        Self::launch(&program, free_port(), arguments, password)
    }

    /// The server on the `PATH`, speaking nothing but TLS with the key in `tests/rust/tls`.
    /// Not the one that `FEASTRS_TEST_REDIS` names: not every build has TLS.
    pub fn start_tls(arguments: &[&str]) -> Self {
        let port = free_port();
        let (tls_port, folder) = (port.to_string(), tls_folder());
        let [certificate, key, authority] =
            ["server.pem", "server.key", "ca.pem"].map(|name| format!("{folder}/{name}"));
        let mut all = vec!["--port", "0", "--tls-port", &tls_port, "--tls-cert-file", &certificate];
        all.extend(["--tls-key-file", &key, "--tls-ca-cert-file", &authority]);
        all.extend(arguments);
        Self::launch("redis-server", port, &all, None)
    }

    /// A cluster of one node, which speaks TLS on a port of its own.
    pub fn start_tls_cluster() -> Self {
        let (tls_port, folder) = (free_port(), tls_folder());
        let [certificate, key, authority] =
            ["server.pem", "server.key", "ca.pem"].map(|name| format!("{folder}/{name}"));
        let shown = tls_port.to_string();
        let mut all = vec!["--tls-port", &shown, "--tls-cert-file", &certificate];
        all.extend(["--tls-key-file", &key, "--tls-ca-cert-file", &authority]);
        all.extend(["--tls-auth-clients", "no", "--tls-cluster", "yes"]);
        all.extend(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
        let mut server = Self::launch("redis-server", free_port(), &all, None);
        let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
        let mut command: Vec<&[u8]> = vec![b"CLUSTER", b"ADDSLOTS"];
        command.extend(slots.iter().map(String::as_bytes));
        assert_eq!(server.call(&command).text(), "OK");
        let started = Instant::now();
        while !server.call(&[b"CLUSTER", b"INFO"]).text().contains("cluster_state:ok") {
            assert!(started.elapsed() < Duration::from_secs(10), "the cluster does not start");
            thread::sleep(Duration::from_millis(5));
        }
        server.tls_port = Some(tls_port);
        server
    }

    /// A sentinel that watches over the master on `master_port`, under the name `primary`.
    pub fn start_sentinel(master_port: &str, password: &str) -> Self {
        let folder = TempDir::new().expect("a folder for the sentinel");
        let settings = folder.path().join("sentinel.conf");
        let mut text = format!(
            "sentinel monitor primary 127.0.0.1 {master_port} 2\n\
             sentinel down-after-milliseconds primary 500\n\
             sentinel failover-timeout primary 3000\n"
        );
        if !password.is_empty() {
            text.push_str(&format!("requirepass {password}\nsentinel sentinel-pass {password}\n"));
        }
        std::fs::write(&settings, text).expect("the sentinel's settings");
        let program = std::env::var("FEASTRS_TEST_REDIS").unwrap_or("redis-server".to_owned());
        let port = free_port();
        let child = Command::new(&program)
            .arg(&settings)
            .args(["--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a sentinel");
        let password = (!password.is_empty()).then(|| password.to_owned());
        let sentinel = RedisServer { child, _folder: folder, port, tls_port: None, password };
        sentinel.await_ready();
        sentinel
    }

    /// Kills the server, as a crash would.
    pub fn kill(&self) {
        let status = Command::new("kill").args(["-9", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn launch(program: &str, port: u16, arguments: &[&str], password: Option<&str>) -> Self {
        let folder = TempDir::new().expect("a folder for the server");
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(folder.path())
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "can't start '{program}': {error}; install Redis 7.0 (Debian: apt-get install \
                     redis-server) or name a server with FEASTRS_TEST_REDIS"
                )
            });
        let password = password.map(str::to_owned);
        let server = RedisServer { child, _folder: folder, port, tls_port: None, password };
        server.await_ready();
        server
    }

    fn await_ready(&self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "the Redis server does not start");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// `127.0.0.1:port`, with the password where there is one.
    pub fn connection_string(&self) -> String {
        match &self.password {
            Some(password) => format!("127.0.0.1:{},password={password}", self.port),
            None => format!("127.0.0.1:{}", self.port),
        }
    }

    /// Settings of a store on this server, all else as by default.
    pub fn config(&self) -> RedisConfig {
        config(&self.connection_string())
    }

    /// Runs one command and gives its reply; an error reply is shown as text.
    pub fn call(&self, arguments: &[&[u8]]) -> Reply {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        if let Some(password) = &self.password {
            send(&mut stream, &[b"AUTH", password.as_bytes()]);
            receive(&mut BufReader::new(&stream));
        }
        send(&mut stream, arguments);
        receive(&mut BufReader::new(&stream))
    }

    /// Stops the server's process without ending it, or lets it go on.
    pub fn pause(&self, is_paused: bool) {
        let signal = if is_paused { "-STOP" } else { "-CONT" };
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings of a store with this connection string, all else as by default.
pub fn config(connection_string: &str) -> RedisConfig {
    RedisConfig {
        redis_type: RedisType::Redis,
        sentinel_master: "mymaster".to_owned(),
        connection_string: Secret::new(connection_string),
        key_ttl_seconds: None,
        skip_dedup: false,
        full_scan_for_deletion: true,
        equal_timestamps_skip: false,
        read_command: ReadCommand::Auto,
    }
}

/// Where the keys and certificates of [`RedisServer::start_tls`] are.
pub fn tls_folder() -> String {
    format!("{}/tests/rust/tls", env!("CARGO_MANIFEST_DIR"))
}

/// A port on which nobody listens, nor on the one 10,000 above it: the nodes of a cluster talk
/// to each other there.
pub fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let bus = port.checked_add(10_000);
        if bus.is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok()) {
            return port;
        }
    }
}

/// A connection that stays open.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// To the server on this port.
    pub fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Client { stream: BufReader::new(stream) }
    }

    /// Runs one command and gives its reply; an error reply is shown as text.
    pub fn call(&mut self, arguments: &[&[u8]]) -> Reply {
        send(self.stream.get_mut(), arguments);
        receive(&mut self.stream)
    }
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Text(String),
    Integer(i64),
    Bytes(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    /// The text, of a reply that is one.
    pub fn text(&self) -> String {
        match self {
            Reply::Text(text) => text.clone(),
            Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The number, of a reply that is one.
    pub fn integer(&self) -> i64 {
        match self {
            Reply::Integer(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }
}

fn send(stream: &mut impl Write, arguments: &[&[u8]]) {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    stream.write_all(&bytes).expect("the server takes the command");
}

fn receive(stream: &mut impl BufRead) -> Reply {
    let mut line = String::new();
    stream.read_line(&mut line).expect("the server answers");
    let (kind, text) = line.trim_end().split_at(1);
    let length = || text.parse::<i64>().expect("a length");
    match kind {
        "+" | "-" => Reply::Text(text.to_owned()),
        ":" => Reply::Integer(length()),
        "$" if length() < 0 => Reply::Nil,
        "$" => {
            let mut bytes = vec![0; length() as usize + 2];
            stream.read_exact(&mut bytes).expect("the whole string");
            bytes.truncate(bytes.len() - 2);
            Reply::Bytes(bytes)
        }
        "*" if length() < 0 => Reply::Nil,
        "*" => Reply::Array((0..length()).map(|_| receive(stream)).collect()),
        _ => panic!("no reply: {line}"),
    }
}
