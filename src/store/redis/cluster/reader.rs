//! The blocking driver of a cluster's [`Plan`]: a connection for each lane, all at work at
//! once.

use std::sync::Arc;

use super::super::pool::{Lease, Pool};
use super::super::read_job::ReadJob;
use super::attempts::Attempts;
use super::lane::Lane;
use super::nodes::Cluster;
use super::plan::{Attempt, Failure, Next, Plan, Step, at, in_general, lost_track};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::RowSink;

pub(in super::super) struct ClusterReader<'a> {
    cluster: &'a Cluster,
    plan: Plan<'a>,
    // For each lane of the plan.
    links: Vec<Link>,
}

struct Link {
    pool: Arc<Pool>,
    // `None`: not connected (yet, or any more); then nothing is under way.
    lease: Option<Lease>,
}

impl<'a> ClusterReader<'a> {
    pub(in super::super) fn new(cluster: &'a Cluster, job: ReadJob<'a>) -> Self {
        ClusterReader { cluster, plan: cluster.plan(job), links: Vec::new() }
    }

    /// Whether a node refused HGETALL and HMGET was used instead.
    pub(in super::super) fn has_given_up_hgetall(&self) -> bool {
        self.plan.has_given_up_hgetall()
    }

    /// Reads everything.
    pub(in super::super) fn run(&mut self, sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()> {
        let outcome = self.run_until_done(sink, call);
        self.disconnect();
        outcome
    }

    fn run_until_done(&mut self, sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()> {
        let mut attempts = Attempts::new(self.cluster.options());
        loop {
            let Err(Failure { error, lane }) = self.attempt(sink, call) else { return Ok(()) };
            if let Some(lane) = lane {
                self.lose(lane, &error);
            }
            match attempts.judge(error, self.plan.progress(), self.cluster.is_known())? {
                Some(error) => attempts.retry.pause(error, call)?,
                None => call.check()?,
            }
            // A cluster that can't tell now may be able to at the next attempt.
            match self.cluster.refresh(call) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    fn attempt(&mut self, sink: &mut dyn RowSink, call: &Call<'_>) -> Attempt<()> {
        loop {
            let step = match self.plan.next()? {
                Next::Nothing => return Ok(()),
                Next::Send => {
                    self.send(call)?;
                    continue;
                }
                Next::Kept => self.plan.take_kept(sink)?,
                Next::Answer(lane) => {
                    self.top_up(lane, call)?;
                    let Some(Link { pool, lease: Some(lease) }) = self.links.get_mut(lane) else {
                        return Err(lost_track());
                    };
                    let reply = lease.connection.receive(call).map_err(at(lane))?;
                    self.plan.answer(lane, reply, pool.node(), sink)?
                }
            };
            match step {
                Step::On => {}
                Step::Moved { slot, to } => self.cluster.moved(slot, &to),
                Step::StartAgain => self.disconnect(),
            }
        }
    }

    /// Sends to all nodes what they are to be asked for.
    fn send(&mut self, call: &Call<'_>) -> Attempt<()> {
        self.plan.assign(&*self.cluster.map(call).map_err(in_general)?)?;
        // Only the first time nobody waits for a connection with others in hand; and then all
        // reads take theirs in one order, so that none waits for another that waits for it.
        let may_wait = self.links.is_empty();
        let lanes = self.plan.lanes();
        self.links.extend(
            lanes
                .iter()
                .skip(self.links.len())
                .map(|lane| Link { pool: self.cluster.pool(lane.address()), lease: None }),
        );
        for lane in connection_order(lanes) {
            if let Some(link) = self.links.get_mut(lane) {
                link.connect(may_wait, call).map_err(at(lane))?;
            }
        }
        (0..self.links.len()).try_for_each(|lane| self.top_up(lane, call))
    }

    /// Sends a chunk of questions, unless there are none or enough are under way.
    fn top_up(&mut self, lane: usize, call: &Call<'_>) -> Attempt<()> {
        if !self.plan.lanes().get(lane).is_some_and(Lane::is_sending) {
            return Ok(());
        }
        let link = self.links.get_mut(lane).ok_or_else(lost_track)?;
        let lease = link.connect(false, call).map_err(at(lane))?;
        let command = self.plan.next_chunk(lane, usize::MAX, lease.connection.commands());
        lease.connection.set_doing(command);
        lease.connection.send(call).map_err(at(lane))
    }

    /// A lane whose connection broke, or that never had one. The connection is closed, so that
    /// nobody ever reads the answers that are under way.
    fn lose(&mut self, lane: usize, error: &Error) {
        let Some(link) = self.links.get_mut(lane) else { return };
        link.lease = None;
        let is_suspect = self.cluster.failed(&link.pool, error);
        self.plan.lose(lane, is_suspect);
    }

    /// Gives all connections back; one that is owed a reply is closed.
    fn disconnect(&mut self) {
        self.links.drain(..).filter_map(|link| link.lease).for_each(Lease::give_back);
    }
}

impl Link {
    /// Connects, if it is not connected. `may_wait`: whether to wait for a connection where
    /// all are in use.
    fn connect(&mut self, may_wait: bool, call: &Call<'_>) -> Result<&mut Lease> {
        let lease = match self.lease.take() {
            Some(lease) => lease,
            None if may_wait => self.pool.take(call)?,
            None => self.pool.take_at_once(call)?,
        };
        Ok(self.lease.insert(lease))
    }
}

/// The lanes that have something to send, in the order in which every read connects.
pub(super) fn connection_order(lanes: &[Lane]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lanes.len()).collect();
    order.retain(|index| lanes.get(*index).is_some_and(|lane| lane.unsent() > 0));
    order.sort_by_key(|index| lanes.get(*index).map(Lane::address));
    order
}
