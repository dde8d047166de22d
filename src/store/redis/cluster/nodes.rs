//! The nodes of a cluster: the map of its slots, and connections to each node, for blocking and
//! asynchronous reads alike. The map is fetched when it is first needed, and again when it
//! turned out to be wrong; here is decided when, and by whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::super::handshake::Purpose;
use super::super::options::{Address, Options};
use super::super::pool::Pool;
use super::super::read_job::ReadJob;
use super::plan::Plan;
use super::slot_map::SlotMap;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::process_local::ProcessLocal;
use crate::store::ConnectionCount;

/// Maps are not fetched more often than this, however many reads find theirs wrong.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// A replica that is new, or back, is told of by nothing but a new map: who reads from replicas
/// fetches one now and then.
const MAX_AGE_WITH_REPLICAS: Duration = Duration::from_secs(15);

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

    /// The plan of one read.
    pub(super) fn plan<'a>(&self, job: ReadJob<'a>) -> Plan<'a> {
        Plan::new(job, self.options.read_from_replicas, self.turn())
    }

    /// A number that is another at each call.
    fn turn(&self) -> usize {
        self.rotation.fetch_add(1, Ordering::Relaxed)
    }

    /// What is known of the map of the slots.
    pub(super) fn look_up(&self) -> Lookup {
        let known = self.known();
        match &known.map {
            Some(map) if known.is_fetching || !self.is_doubtful(&known) => {
                Lookup::Known(map.clone())
            }
            None if known.is_fetching => Lookup::IsFetched,
            _ => Lookup::Unknown,
        }
    }

    /// The map after an attempt to fetch it, an older one where that failed; `None` if somebody
    /// else was faster, and failed.
    pub(super) fn map_after(&self, outcome: Result<()>) -> Result<Option<Arc<SlotMap>>> {
        match (&self.known().map, outcome) {
            (Some(map), _) => Ok(Some(map.clone())),
            (None, outcome) => outcome.map(|()| None),
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

    /// The right to fetch the map, and whom to ask for it; `None` where somebody does so just
    /// now or has done so just before.
    pub(super) fn begin_to_fetch(&self) -> Option<(Fetching<'_>, Vec<Address>)> {
        let mut known = self.known();
        let is_recent = known.map.is_some()
            && known.fetched.is_some_and(|then| then.elapsed() < MIN_REFRESH_INTERVAL);
        if known.is_fetching || is_recent {
            return None;
        }
        known.is_fetching = true;
        let candidates = self.candidates(&known);
        Some((Fetching { cluster: self }, candidates))
    }

    fn keep(&self, map: SlotMap) {
        let mut known = self.known();
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

    /// The connections to each master.
    pub(in super::super) fn masters(&self, call: &Call<'_>) -> Result<Vec<Arc<Pool>>> {
        let map = self.map(call)?;
        Ok(map.shards().iter().map(|shard| self.pool(&shard.master)).collect())
    }

    /// How many connections are open, to all nodes together.
    pub(in super::super) fn connections(&self) -> ConnectionCount {
        let pools: Vec<Arc<Pool>> = self.known().pools.values().cloned().collect();
        pools.iter().map(|pool| pool.connections()).sum()
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
        if let Some(map) = &known.map
            && !map.is_at(slot, to)
        {
            known.map = Some(Arc::new(map.with_moved(slot, to)));
        }
        known.is_doubtful = true;
    }

    /// A read has failed at the node of `pool`; whether that went away or did not answer, for
    /// which it is suspected from now on.
    pub(super) fn failed(&self, pool: &Pool, error: &Error) -> bool {
        if !matches!(error.kind(), ErrorKind::StoreUnavailable | ErrorKind::StoreTimeout) {
            return false;
        }
        pool.close_idle();
        let mut known = self.known();
        known.is_doubtful = true;
        known.suspect = Some(pool.address().clone());
        true
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is a whole one: whoever panicked left nothing half done.
        self.known.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The map, as far as it is known.
pub(super) enum Lookup {
    Known(Arc<SlotMap>),
    /// There is none, but somebody fetches it.
    IsFetched,
    /// There is none, or it is doubtful, and nobody fetches it.
    Unknown,
}

/// Somebody fetches the map; whatever becomes of it, others may afterwards.
pub(super) struct Fetching<'a> {
    cluster: &'a Cluster,
}

impl Fetching<'_> {
    /// Keeps the map, if one was fetched.
    pub(super) fn end(self, outcome: Result<SlotMap>) -> Result<()> {
        self.cluster.known().fetched = Some(Instant::now());
        outcome.map(|map| self.cluster.keep(map))
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.cluster.known().is_fetching = false;
    }
}
