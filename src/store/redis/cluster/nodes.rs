//! The nodes of a cluster: the map of its slots, and connections to each node. The map is
//! fetched when it is first needed, and again when it turned out to be wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::super::handshake::Purpose;
use super::super::options::{Address, Options};
use super::super::pool::Pool;
use super::super::refusal;
use super::slot_map::SlotMap;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::process_local::ProcessLocal;

const COMMAND: &str = "CLUSTER SLOTS";
/// Maps are not fetched more often than this, however many reads find theirs wrong.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// A replica that is new, or back, is told of by nothing but a new map: who reads from replicas
/// fetches one now and then.
const MAX_AGE_WITH_REPLICAS: Duration = Duration::from_secs(15);
/// How often one looks whether another thread has fetched the first map.
const FIRST_MAP_POLL: Duration = Duration::from_millis(2);

/// A cluster, as this process knows it.
pub(in super::super) struct Cluster {
    options: Arc<Options>,
    tls: Option<Arc<ClientConfig>>,
    known: ProcessLocal<Mutex<Known>>,
    // Which of a shard's nodes is read from next, and which node is asked for the map.
    rotation: AtomicUsize,
}

#[derive(Default)]
struct Known {
    map: Option<Arc<SlotMap>>,
    pools: HashMap<Address, Arc<Pool>>,
    // The map was wrong about something: the next read fetches it anew.
    is_doubtful: bool,
    // A node that did not answer: others are asked first.
    suspect: Option<Address>,
    is_fetching: bool,
    fetched: Option<Instant>,
}

impl Cluster {
    /// The cluster that the nodes of `options` belong to.
    pub(in super::super) fn new(options: Arc<Options>, tls: Option<Arc<ClientConfig>>) -> Self {
        let rotation = AtomicUsize::new(std::process::id() as usize);
        Cluster { options, tls, known: ProcessLocal::new(), rotation }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// A number that is another at each call.
    pub(super) fn turn(&self) -> usize {
        self.rotation.fetch_add(1, Ordering::Relaxed)
    }

    /// The map of the slots, fetched where there is none yet or it is doubtful.
    pub(super) fn map(&self, call: &Call<'_>) -> Result<Arc<SlotMap>> {
        loop {
            let known = self.known();
            match &known.map {
                Some(map) if known.is_fetching || !self.is_doubtful(&known) => {
                    return Ok(map.clone());
                }
                _ => {}
            }
            let is_other_fetching = known.is_fetching;
            drop(known);
            if is_other_fetching {
                call.check()?;
                thread::sleep(FIRST_MAP_POLL);
                continue;
            }
            let outcome = self.refresh(call);
            match (&self.known().map, outcome) {
                (Some(map), _) => return Ok(map.clone()),
                (None, Err(error)) => return Err(error),
                // Another thread was faster, and failed.
                (None, Ok(())) => {}
            }
        }
    }

    fn is_doubtful(&self, known: &Known) -> bool {
        known.is_doubtful
            || self.options.read_from_replicas
                && known.fetched.is_none_or(|then| then.elapsed() > MAX_AGE_WITH_REPLICAS)
    }

    /// Whether a node of the cluster has ever answered.
    pub(super) fn is_known(&self) -> bool {
        self.known().map.is_some()
    }

    /// Fetches the map, unless somebody does so just now or has done so just before. Asks one
    /// node after the other until one answers.
    pub(super) fn refresh(&self, call: &Call<'_>) -> Result<()> {
        let candidates = {
            let mut known = self.known();
            let is_recent = known.map.is_some()
                && known.fetched.is_some_and(|then| then.elapsed() < MIN_REFRESH_INTERVAL);
            if known.is_fetching || is_recent {
                return Ok(());
            }
            known.is_fetching = true;
            self.candidates(&known)
        };
        let fetching = Fetching { cluster: self };
        let outcome = self.fetch(&candidates, call);
        let mut known = self.known();
        known.fetched = Some(Instant::now());
        let outcome = outcome.map(|map| {
            let is_member = |address: &Address| {
                map.shards()
                    .iter()
                    .any(|shard| shard.master == *address || shard.replicas.contains(address))
                    || self.options.nodes.contains(address)
            };
            known.pools.retain(|address, _| is_member(address));
            known.map = Some(Arc::new(map));
            known.is_doubtful = false;
            known.suspect = None;
        });
        drop(known);
        drop(fetching);
        outcome
    }

    /// Whom to ask for the map: the masters, another one first each time, then the nodes that
    /// were configured; those that did not answer last.
    fn candidates(&self, known: &Known) -> Vec<Address> {
        let mut candidates: Vec<Address> = Vec::new();
        if let Some(map) = &known.map {
            candidates.extend(map.shards().iter().map(|shard| shard.master.clone()));
            let turn = self.turn() % candidates.len().max(1);
            candidates.rotate_left(turn);
        }
        let configured = self.options.nodes.iter().filter(|node| !candidates.contains(node));
        let configured: Vec<Address> = configured.cloned().collect();
        candidates.extend(configured);
        candidates.sort_by_key(|address| known.suspect.as_ref() == Some(address));
        candidates
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
        let names: Vec<String> = candidates.iter().map(Address::node).collect();
        let what =
            format!("no node tells the slots of the cluster; asked were {}", names.join(", "));
        Err(match failure {
            Some(error) => error.context(what),
            None => Error::new(ErrorKind::StoreUnavailable, what),
        })
    }

    fn fetch_from(&self, address: &Address, call: &Call<'_>) -> Result<SlotMap> {
        let pool = self.pool(address);
        // Whoever fetches the map may hold connections to other nodes.
        let mut lease = pool.take_at_once(call)?;
        let connection = &mut lease.connection;
        connection.set_doing(COMMAND);
        connection.commands().command(&[b"CLUSTER", b"SLOTS"]);
        connection.send(call)?;
        let reply = connection.receive(call)?;
        let node = pool.node();
        if let Some(text) = reply.error() {
            let error = refusal::refused(node, COMMAND, text);
            lease.give_back();
            return Err(error);
        }
        let map = SlotMap::parse(reply, address).ok_or_else(|| {
            let message = format!("{node} answered {COMMAND} with something that is no such list");
            Error::new(ErrorKind::StoreInvalid, message)
        })?;
        lease.give_back();
        match map.shards().is_empty() {
            false => Ok(map),
            // A node that was reset, or has not met the others yet.
            true => Err(Error::new(
                ErrorKind::StoreUnavailable,
                format!("{node} knows no node of its cluster that serves slots"),
            )),
        }
    }

    /// The connections to the node at `address`.
    pub(super) fn pool(&self, address: &Address) -> Arc<Pool> {
        let mut known = self.known();
        if let Some(pool) = known.pools.get(address) {
            return pool.clone();
        }
        let (options, tls) = (self.options.clone(), self.tls.clone());
        let pool = Arc::new(Pool::new(address.clone(), options, tls, Purpose::ClusterNode));
        known.pools.insert(address.clone(), pool.clone());
        pool
    }

    /// Closes all connections that nobody uses at the moment.
    pub(in super::super) fn close(&self) {
        let pools: Vec<Arc<Pool>> = self.known().pools.values().cloned().collect();
        pools.iter().for_each(|pool| pool.close());
    }

    /// A node said that `slot` is at another. The rest of the map is doubtful, too: slots move
    /// in groups.
    pub(super) fn moved(&self, slot: u16, to: &Address) {
        let mut known = self.known();
        if let Some(map) = &known.map {
            known.map = Some(Arc::new(map.with_moved(slot, to)));
        }
        known.is_doubtful = true;
    }

    /// The node at `address` went away or did not answer.
    pub(super) fn doubt(&self, address: &Address) {
        let mut known = self.known();
        known.is_doubtful = true;
        known.suspect = Some(address.clone());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is a whole one: whoever panicked left nothing half done.
        self.known.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody fetches the map; whatever becomes of it, others may afterwards.
struct Fetching<'a> {
    cluster: &'a Cluster,
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.cluster.known().is_fetching = false;
    }
}
