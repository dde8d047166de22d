//! Whether what servers have acknowledged is still theirs when all is written. Replicas hear of
//! writes later, and memory is lost in a crash: a master that was replaced, or a server that
//! came back, may have lost rows, and no reply to a later command says so.
//!
//! Must not know what was written.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::pool::Pool;
use super::primary::MAX_CONNECTS;
use super::refusal;
use super::retry::Retry;
use super::stored::Server;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::WriteWatch;

/// How long a replica may take to hear of what was written, or the sentinels to tell that there
/// is another master: until then the old one knows nothing of it.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Milliseconds for which the server itself waits for a replica: so the replica is asked.
const WAIT: &[u8] = b"100";

/// The servers that rows go to, as they were before the first.
pub(super) struct Watch {
    server: Arc<Server>,
    before: Vec<(Arc<Pool>, Told)>,
}

impl Watch {
    /// Looks at the servers. One that does not tell about itself is not watched: nothing can be
    /// known of it.
    pub(super) fn begin(server: Arc<Server>, call: &Call<'_>) -> Result<Self> {
        let mut before = Vec::new();
        for pool in server.masters(call)? {
            if let Some(told) = look(&server, &pool, false, call)? {
                before.push((pool, told));
            }
        }
        Ok(Watch { server, before })
    }

    fn confirm_one(&self, pool: &Arc<Pool>, before: &Told, call: &Call<'_>) -> Result<()> {
        let (started, mut written) = (Instant::now(), None);
        loop {
            let now = look(&self.server, pool, before.has_replicas, call)?;
            let Some(now) = now else { return Ok(()) };
            if !now.has_stayed_master_since(before) {
                return Err(replaced(&before.node));
            }
            let written = *written.get_or_insert(now.offset);
            if !before.has_replicas || now.heard.is_some_and(|heard| heard >= written) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                log::warn!(
                    "no replica of Redis at {} has heard of all that was written within {} s: if \
                     it fails now, the rest is lost",
                    before.node,
                    PATIENCE.as_secs()
                );
                return Ok(());
            }
            thread::sleep(POLL);
            call.check()?;
        }
    }
}

impl WriteWatch for Watch {
    fn confirm(&self, call: &Call<'_>) -> Result<()> {
        self.before.iter().try_for_each(|(pool, before)| self.confirm_one(pool, before, call))
    }
}

/// What the server of `pool`, or whoever has its place now, says of itself.
fn look(server: &Server, pool: &Arc<Pool>, waits: bool, call: &Call<'_>) -> Result<Option<Told>> {
    let mut retry = Retry::new(pool.options().io_timeout);
    loop {
        let pool = server.successor(pool, call)?;
        let outcome = pool.take(call).and_then(|mut lease| {
            let told = Told::ask(&mut lease.connection, waits, call);
            lease.give_back();
            told
        });
        match outcome {
            Ok(told) => return Ok(told),
            // Where nobody takes its place, it is not waited for.
            Err(error) if !server.has_sentinels() && retry.failures() + 1 >= MAX_CONNECTS => {
                return Err(error);
            }
            Err(error) => {
                pool.close_idle();
                retry.pause(error, call)?;
            }
        }
    }
}

/// What a server says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    node: Arc<str>,
    // Another one after each start.
    run: Vec<u8>,
    is_master: bool,
    // Of the master whose place it took last; zeros for nobody.
    predecessor: Vec<u8>,
    has_replicas: bool,
    // How far its writes have come, and of which of them a replica has heard.
    offset: u64,
    heard: Option<u64>,
}

impl Told {
    /// Asks; `None`: the server does not tell.
    fn ask(connection: &mut Connection, waits: bool, call: &Call<'_>) -> Result<Option<Self>> {
        connection.set_doing("INFO");
        if waits {
            connection.commands().command(&[b"WAIT", b"1", WAIT]);
        }
        for section in [&b"server"[..], b"replication"] {
            connection.commands().command(&[b"INFO", section]);
        }
        connection.send(call)?;
        if waits {
            // Whatever it is, it is in what INFO says.
            connection.receive(call)?;
        }
        let node = connection.node().clone();
        let mut texts = Vec::new();
        for _ in 0..2 {
            let reply = connection.receive(call)?;
            match reply.error() {
                Some(text) if text.starts_with(b"LOADING") => {
                    return Err(refusal::refused(&node, "INFO", text));
                }
                Some(_) => {}
                None => texts.extend_from_slice(reply.text().unwrap_or_default()),
            }
        }
        Ok(Told::parse(node, &texts))
    }

    fn parse(node: Arc<str>, text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let pairs = || text.lines().filter_map(|line| line.trim_end().split_once(':'));
        let value = |name: &str| pairs().find(|(key, _)| *key == name).map(|(_, value)| value);
        let is_replica = |key: &str| {
            key.strip_prefix("slave").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        };
        let heard = pairs().filter(|(key, _)| is_replica(key)).filter_map(|(_, replica)| {
            replica.split(',').find_map(|part| part.strip_prefix("offset=")?.parse().ok())
        });
        Some(Told {
            node,
            run: value("run_id")?.into(),
            is_master: value("role")? == "master",
            predecessor: value("master_replid2")?.into(),
            has_replicas: value("connected_slaves").is_some_and(|count| count != "0"),
            offset: value("master_repl_offset")?.parse().ok()?,
            heard: heard.max(),
        })
    }

    /// It is the same run of the same server, and nobody else was master in between.
    fn has_stayed_master_since(&self, before: &Told) -> bool {
        let is_nobody = |id: &[u8]| id.iter().all(|byte| *byte == b'0');
        self.is_master
            && self.run == before.run
            && (self.predecessor == before.predecessor || is_nobody(&self.predecessor))
    }
}

#[cold]
fn replaced(node: &str) -> Error {
    Error::new(
        ErrorKind::StoreUnavailable,
        format!(
            "Redis at {node} was restarted, or replaced by another master, while rows were \
             written: some that it had acknowledged may be lost; write them again"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# Server\r\nrun_id:r1\r\n# Replication\r\nrole:master\r\n\
        connected_slaves:2\r\nslave0:ip=h,port=1,state=online,offset=90,lag=0\r\n\
        slave1:ip=h,port=2,state=online,offset=100,lag=0\r\nslave_read_only:1\r\n\
        master_replid2:000\r\nmaster_repl_offset:120\r\n";

    fn told(text: &str) -> Told {
        Told::parse("h:1".into(), text.as_bytes()).unwrap()
    }

    #[test]
    fn the_replica_that_has_heard_most_counts() {
        let told = told(BEFORE);

        assert_eq!((told.offset, told.heard, told.has_replicas), (120, Some(100), true));
        assert!(Told::parse("h:1".into(), b"role:master\r\n").is_none());
    }

    #[test]
    fn a_restart_and_a_failover_there_and_back_are_noticed() {
        let before = told(BEFORE);
        for (from, to, is_same) in [
            ("offset:120", "offset:500", true),
            ("connected_slaves:2", "connected_slaves:0", true),
            ("run_id:r1", "run_id:r2", false),
            ("role:master", "role:slave", false),
            ("replid2:000", "replid2:abc", false),
        ] {
            let now = told(&BEFORE.replace(from, to));
            assert_eq!(now.has_stayed_master_since(&before), is_same, "{to}");
        }
    }
}
