//! A bug that panics in one request is an answer of its own, and none of the others' business.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use feastrs::call::Call;
use feastrs::config::RepoConfig;
use feastrs::registry::cache::RegistryCache;
use feastrs::server::{App, Limits, NoHost, Options, Server};
use feastrs::store::{
    DeletedView, OnlineStore, Reading, Scope, StoreReader, StoredGroup, StoredView, WriteBatch,
    WriteReport,
};
use feastrs::{Error, ErrorKind, Result};

/// A store with a bug in its ping and nothing else.
struct Buggy;

fn nothing<T>() -> Result<T> {
    Err(Error::new(ErrorKind::StoreUnavailable, "there is nothing here"))
}

impl OnlineStore for Buggy {
    fn reader(&self, _: &[StoredGroup]) -> Arc<dyn StoreReader> {
        unreachable!("nobody reads")
    }

    fn write(&self, _: &WriteBatch<'_>, _: &Call<'_>) -> Result<WriteReport> {
        nothing()
    }

    fn delete(&self, _: &[DeletedView], _: Scope, _: &Call<'_>) -> Result<u64> {
        nothing()
    }

    fn prepare(&self, _: &[StoredView], _: &Call<'_>) -> Result<()> {
        nothing()
    }

    fn ping(&self, _: Instant) -> Reading<'_> {
        Box::pin(async { panic!("a bug, on purpose") })
    }
}

fn status(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_panic_is_500_and_the_connection_goes_on() {
    let yaml = "project: p\nregistry: registry.db\nonline_store: {type: sqlite, path: /none}";
    let config = RepoConfig::from_yaml_text(yaml, Path::new("/nonexistent")).unwrap();
    let registry = RegistryCache::given(&config, b"\x22\x011").unwrap();
    let limits = Limits::default();
    let app = App::new(config, registry, Some(Arc::new(Buggy)), Arc::new(NoHost), &limits).unwrap();
    let options = Options { port: 0, access_log: false, ..Options::default() };
    let server = Server::start(Arc::new(app), options).unwrap();

    let mut stream = TcpStream::connect(server.address()).unwrap();

    for _ in 0..3 {
        assert_eq!(status(&mut stream, "/ready"), "HTTP/1.1 500 Internal Server Error");
        assert_eq!(status(&mut stream, "/health"), "HTTP/1.1 200 OK");
    }
}
