//! A real Redis server for one test, on a port and in a folder of its own, and a client as
//! plain as can be to look into it. The server ends with the test.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use feastrs::config::{ReadCommand, RedisConfig, RedisType, Secret};
use tempfile::TempDir;

/// A running server; dropping it kills it.
pub struct RedisServer {
    child: Child,
    // Goes with the server.
    folder: TempDir,
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
        let arguments = |port: u16| {
            let port = ["--port".to_owned(), port.to_string()];
            port.into_iter().chain(owned(arguments)).collect()
        };
        Self::launch(&program, arguments, password)
    }

    /// The server on the `PATH`, speaking nothing but TLS with the key in `tests/rust/tls`.
    /// Not the one that `FEASTRS_TEST_REDIS` names: not every build has TLS.
    pub fn start_tls(arguments: &[&str]) -> Self {
        let arguments = |port: u16| {
            let mut all = owned(&["--port", "0", "--tls-port"]);
            all.push(port.to_string());
            all.extend(with_key());
            all.extend(owned(arguments));
            all
        };
        Self::launch("redis-server", arguments, None)
    }

    /// A cluster of one node, which speaks TLS on a port of its own.
    pub fn start_tls_cluster() -> Self {
        let tls_port = Cell::new(0);
        let arguments = |port: u16| {
            tls_port.set(free_port());
            let mut all = vec!["--port".to_owned(), port.to_string()];
            all.extend(["--tls-port".to_owned(), tls_port.get().to_string()]);
            all.extend(with_key());
            all.extend(owned(&["--tls-auth-clients", "no", "--tls-cluster", "yes"]));
            all.extend(owned(&["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]));
            all
        };
        let mut server = Self::launch("redis-server", arguments, None);
        let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
        let mut command: Vec<&[u8]> = vec![b"CLUSTER", b"ADDSLOTS"];
        command.extend(slots.iter().map(String::as_bytes));
        assert_eq!(server.call(&command).text(), "OK");
        let started = Instant::now();
        while !server.call(&[b"CLUSTER", b"INFO"]).text().contains("cluster_state:ok") {
            assert!(started.elapsed() < Duration::from_secs(10), "the cluster does not start");
            thread::sleep(Duration::from_millis(5));
        }
        server.tls_port = Some(tls_port.get());
        server
    }

    /// A sentinel that watches over the master on `master_port`, under the name `primary`.
    pub fn start_sentinel(master_port: &str, password: &str) -> Self {
        let mut text = format!(
            "sentinel monitor primary 127.0.0.1 {master_port} 2\n\
             sentinel down-after-milliseconds primary 500\n\
             sentinel failover-timeout primary 3000\n"
        );
        if !password.is_empty() {
            text.push_str(&format!("requirepass {password}\nsentinel sentinel-pass {password}\n"));
        }
        let program = std::env::var("FEASTRS_TEST_REDIS").unwrap_or("redis-server".to_owned());
        let password = (!password.is_empty()).then_some(password);
        Self::launch_in(password, |folder, port| {
            // A sentinel keeps what it learns in its settings, so they must be a file.
            let settings = folder.join("sentinel.conf");
            std::fs::write(&settings, &text).expect("the sentinel's settings");
            let mut command = Command::new(&program);
            command.arg(&settings).args(["--sentinel", "--port", &port.to_string()]);
            command
        })
    }

    /// Kills the server, as a crash would.
    pub fn kill(&self) {
        let status = Command::new("kill").args(["-9", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn launch(
        program: &str,
        arguments: impl Fn(u16) -> Vec<String>,
        password: Option<&str>,
    ) -> Self {
        Self::launch_in(password, |folder, port| {
            let mut command = Command::new(program);
            command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder);
            command.args(arguments(port));
            command
        })
    }

    /// Runs what `command` makes of a folder and a free port: again with others where somebody
    /// took the port before the server did.
    fn launch_in(password: Option<&str>, command: impl Fn(&Path, u16) -> Command) -> Self {
        loop {
            let folder = TempDir::new().expect("a folder for the server");
            let port = free_port();
            let mut command = command(folder.path(), port);
            let log = File::create(folder.path().join("log")).expect("the server's log");
            let child = command
                .args(["--bind", "127.0.0.1"])
                .stdout(log)
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| {
                    panic!(
                        "can't start {:?}: {error}; install Redis 7.0 (Debian: apt-get install \
                         redis-server) or name a server with FEASTRS_TEST_REDIS",
                        command.get_program()
                    )
                });
            let password = password.map(str::to_owned);
            let mut server = RedisServer { child, folder, port, tls_port: None, password };
            if server.comes_up() {
                return server;
            }
        }
    }

    /// Waits until the server takes connections; false where another has its port.
    fn comes_up(&mut self) -> bool {
        let started = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            // What servers say, and sentinels. Who answers at the port may be somebody else.
            if log.contains("Ready to accept connections") || log.contains("+monitor master") {
                return true;
            }
            let has_ended = self.child.try_wait().expect("the server's state").is_some();
            if has_ended && log.contains("Address already in use") {
                return false;
            }
            let is_late = started.elapsed() > Duration::from_secs(10);
            assert!(!has_ended && !is_late, "the Redis server does not start: {log}");
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
        field_ttl: false,
        read_command: ReadCommand::Auto,
    }
}

/// Where the keys and certificates of [`RedisServer::start_tls`] are.
pub fn tls_folder() -> String {
    format!("{}/tests/rust/tls", env!("CARGO_MANIFEST_DIR"))
}

/// Arguments for TLS with the key in [`tls_folder`].
fn with_key() -> Vec<String> {
    let file = |name| format!("{}/{name}", tls_folder());
    let mut all = owned(&["--tls-cert-file", &file("server.pem"), "--tls-key-file"]);
    all.extend([file("server.key"), "--tls-ca-cert-file".to_owned(), file("ca.pem")]);
    all
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
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
