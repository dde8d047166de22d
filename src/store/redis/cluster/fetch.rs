//! How a cluster's map is fetched: from one node after the other until one answers, by one read
//! at a time, be it blocking or asynchronous.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::super::codec::{CommandBuffer, Reply};
use super::super::options::Address;
use super::super::pool::Pool;
use super::super::refusal;
use super::nodes::{Cluster, Lookup};
use super::slot_map::SlotMap;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};

const COMMAND: &str = "CLUSTER SLOTS";
/// How often one looks whether somebody else has fetched the first map.
const FIRST_MAP_POLL: Duration = Duration::from_millis(2);

impl Cluster {
    /// The map of the slots, fetched where there is none yet or it is doubtful.
    pub(super) fn map(&self, call: &Call<'_>) -> Result<Arc<SlotMap>> {
        let started = Instant::now();
        loop {
            match self.look_up() {
                Lookup::Known(map) => return Ok(map),
                Lookup::IsFetched => {
                    call.check()?;
                    self.check_patience(started)?;
                    thread::sleep(FIRST_MAP_POLL);
                }
                Lookup::Unknown => {
                    let outcome = self.refresh(call);
                    if let Some(map) = self.map_after(outcome)? {
                        return Ok(map);
                    }
                }
            }
        }
    }

    /// The same, awaited.
    pub(super) async fn map_async(&self) -> Result<Arc<SlotMap>> {
        let started = Instant::now();
        loop {
            match self.look_up() {
                Lookup::Known(map) => return Ok(map),
                Lookup::IsFetched => {
                    self.check_patience(started)?;
                    tokio::time::sleep(FIRST_MAP_POLL).await;
                }
                Lookup::Unknown => {
                    let outcome = self.refresh_async().await;
                    if let Some(map) = self.map_after(outcome)? {
                        return Ok(map);
                    }
                }
            }
        }
    }

    /// Where no node answers, many reads may come one after the other to ask for the first map:
    /// none waits for all before it.
    fn check_patience(&self, started: Instant) -> Result<()> {
        let patience = self.options().connect_timeout + self.options().io_timeout;
        if started.elapsed() <= patience {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::StoreTimeout,
            format!("no node has told the slots of the cluster within {patience:?}"),
        ))
    }

    /// Fetches the map, unless somebody does so just now or has done so just before.
    pub(super) fn refresh(&self, call: &Call<'_>) -> Result<()> {
        let Some((fetching, candidates)) = self.begin_to_fetch() else { return Ok(()) };
        fetching.end(self.fetch(&candidates, call))
    }

    /// The same, awaited; dropped, it leaves it to others.
    pub(super) async fn refresh_async(&self) -> Result<()> {
        let Some((fetching, candidates)) = self.begin_to_fetch() else { return Ok(()) };
        fetching.end(self.fetch_async(&candidates).await)
    }

    fn fetch(&self, candidates: &[Address], call: &Call<'_>) -> Result<SlotMap> {
        let mut failure = None;
        for address in candidates {
            match self.fetch_from(address, call) {
                Ok(map) => return Ok(map),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => failure = Some(error),
            }
            call.check()?;
        }
        Err(nobody_tells(candidates, failure))
    }

    async fn fetch_async(&self, candidates: &[Address]) -> Result<SlotMap> {
        let mut failure = None;
        for address in candidates {
            match self.fetch_from_async(address).await {
                Ok(map) => return Ok(map),
                Err(error) => failure = Some(error),
            }
        }
        Err(nobody_tells(candidates, failure))
    }

    fn fetch_from(&self, address: &Address, call: &Call<'_>) -> Result<SlotMap> {
        let pool = self.pool(address);
        // Whoever fetches the map may hold connections to other nodes.
        let mut lease = pool.take_at_once(call)?;
        let connection = &mut lease.connection;
        connection.set_doing(COMMAND);
        ask(connection.commands());
        connection.send(call)?;
        let map = read(connection.receive(call)?, &pool);
        lease.give_back();
        map
    }

    async fn fetch_from_async(&self, address: &Address) -> Result<SlotMap> {
        let (pool, mut commands) = (self.pool(address), CommandBuffer::default());
        ask(&mut commands);
        let line = pool.asynchronous().line_at_once(pool.target())?;
        let replies = line.send(&commands)?.replies().await?;
        let reply = replies.get(0).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("the answer to {COMMAND} got lost"))
        })?;
        read(reply, &pool)
    }
}

fn ask(commands: &mut CommandBuffer) {
    commands.command(&[b"CLUSTER", b"SLOTS"]);
}

/// The map that the node of `pool` answered.
fn read(reply: Reply<'_>, pool: &Pool) -> Result<SlotMap> {
    let node = pool.node();
    if let Some(text) = reply.error() {
        return Err(refusal::refused(node, COMMAND, text));
    }
    let map = SlotMap::parse(reply, pool.address()).ok_or_else(|| {
        let message = format!("{node} answered {COMMAND} with something that is no such list");
        Error::new(ErrorKind::StoreInvalid, message)
    })?;
    match map.shards().is_empty() {
        false => Ok(map),
        // A node that was reset, or has not met the others yet.
        true => Err(Error::new(
            ErrorKind::StoreUnavailable,
            format!("{node} knows no node of its cluster that serves slots"),
        )),
    }
}

#[cold]
fn nobody_tells(candidates: &[Address], failure: Option<Error>) -> Error {
    let names: Vec<String> = candidates.iter().map(Address::node).collect();
    let what = format!("no node tells the slots of the cluster; asked were {}", names.join(", "));
    match failure {
        Some(error) => error.context(what),
        None => Error::new(ErrorKind::StoreUnavailable, what),
    }
}
