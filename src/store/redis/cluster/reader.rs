//! One read of a cluster: a lane for each node, all at work at once. Rows are given to the sink
//! in the order of the keys, straight from the nodes' receive buffers; only where a key was
//! redirected are the replies behind it kept until its own has come.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::codec::{Reply, ReplyParser};
use super::super::options::Address;
use super::super::pool::Pool;
use super::super::primary::MAX_CONNECTS;
use super::super::read_job::{Position, ReadJob, Slots, Taken, reuse};
use super::super::refusal;
use super::super::retry::Retry;
use super::lane::{Answer, Lane, Question};
use super::nodes::Cluster;
use super::redirect::Redirect;
use super::slot::slot_of;
use super::slot_map::SlotMap;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::RowSink;

/// A key that was sent on so often is tried again later: the nodes do not agree.
const MAX_REDIRECTS: u32 = 8;

pub(in super::super) struct ClusterReader<'a> {
    cluster: &'a Cluster,
    job: ReadJob<'a>,
    // Every key, in the order of the rows; all else speaks of them by their index here.
    keys: Vec<Position>,
    // For each key the lane that is to answer it.
    lane_of: Vec<usize>,
    // The first key whose rows the sink does not have.
    next: usize,
    lanes: Vec<Lane>,
    // Replies that came before their turn.
    kept: HashMap<usize, Kept>,
    // Keys that are in no lane.
    orphans: Vec<Question>,
    redirects: HashMap<usize, u32>,
    // Replicas that did not serve this read.
    avoided: Vec<Address>,
    turn: usize,
    may_be_late: bool,
}

/// A reply out of its buffer.
struct Kept {
    bytes: Vec<u8>,
    node: Arc<str>,
}

/// Why an attempt ended.
struct Failure {
    error: Error,
    /// The lane that is of no use any more; `None` where the nodes answered, but not with rows.
    lane: Option<usize>,
}

type Attempt<T> = std::result::Result<T, Failure>;

impl<'a> ClusterReader<'a> {
    pub(in super::super) fn new(cluster: &'a Cluster, job: ReadJob<'a>) -> Self {
        let keys: Vec<Position> =
            std::iter::successors(job.first(), |position| job.after(*position)).collect();
        ClusterReader {
            cluster,
            job,
            lane_of: vec![usize::MAX; keys.len()],
            orphans: (0..keys.len()).map(|index| Question { index, is_asking: false }).collect(),
            keys,
            next: 0,
            lanes: Vec::new(),
            kept: HashMap::new(),
            redirects: HashMap::new(),
            avoided: Vec::new(),
            turn: cluster.turn(),
            may_be_late: cluster.options().retry_on_timeout,
        }
    }

    /// Whether a node refused HGETALL and HMGET was used instead.
    pub(in super::super) fn has_given_up_hgetall(&self) -> bool {
        self.job.has_given_up_hgetall()
    }

    /// Reads everything.
    pub(in super::super) fn run(&mut self, sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()> {
        let outcome = self.run_until_done(sink, call);
        self.lanes.drain(..).for_each(Lane::finish);
        outcome
    }

    fn run_until_done(&mut self, sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()> {
        let budget = self.cluster.options().io_timeout;
        let (mut retry, mut progress) = (Retry::new(budget), self.next);
        loop {
            let Err(Failure { error, lane }) = self.attempt(sink, call) else { return Ok(()) };
            if self.next > progress {
                // It goes on, though with interruptions.
                (retry, progress) = (Retry::new(budget), self.next);
            }
            if let Some(lane) = lane {
                self.lose(lane, &error);
            }
            if retry.failures() + 1 >= MAX_CONNECTS && !self.cluster.is_known() {
                return Err(error);
            }
            if error.kind() == ErrorKind::StoreTimeout && std::mem::take(&mut self.may_be_late) {
                call.check()?;
            } else {
                retry.pause(error, call)?;
            }
            // A cluster that can't tell now may be able to at the next attempt.
            match self.cluster.refresh(call) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    fn attempt(&mut self, sink: &mut dyn RowSink, call: &Call<'_>) -> Attempt<()> {
        self.adopt(call)?;
        self.top_up_all(call)?;
        let mut spare: Slots<'static> = Vec::new();
        while self.next < self.keys.len() {
            // Mostly there are none, and then nothing is to be looked up.
            if !self.kept.is_empty()
                && let Some(kept) = self.kept.remove(&self.next)
            {
                self.take_kept(&kept, sink, call)?;
                continue;
            }
            let lane = self.lane_of.get(self.next).copied().unwrap_or(usize::MAX);
            self.top_up(lane, call)?;
            let Some(talk) = self.lanes.get_mut(lane) else { return Err(lost_track()) };
            let Answer { index, reply, pool } = talk.receive(call).map_err(at(lane))?;
            if let Some(redirect) = Redirected::of(&reply, pool) {
                self.redirected(lane, index, redirect, call)?;
                continue;
            }
            if index != self.next {
                self.kept.insert(index, Kept::of(&reply, pool));
                continue;
            }
            let Some(&position) = self.keys.get(index) else { return Err(lost_track()) };
            let mut slots = reuse(spare);
            let taken = self.job.take(position, reply, &mut slots, sink, pool.node());
            spare = reuse(slots);
            self.taken(taken, call)?;
        }
        Ok(())
    }

    /// After the reply for the next key was taken.
    fn taken(&mut self, taken: Result<Taken>, call: &Call<'_>) -> Attempt<()> {
        match taken {
            Ok(Taken::Row) => {
                self.next += 1;
                Ok(())
            }
            Ok(Taken::HgetallWithheld) => self.start_again_with_hmget(call),
            Err(error) => {
                self.orphans.push(Question { index: self.next, is_asking: false });
                Err(Failure { error, lane: None })
            }
        }
    }

    fn take_kept(&mut self, kept: &Kept, sink: &mut dyn RowSink, call: &Call<'_>) -> Attempt<()> {
        let mut parser = ReplyParser::default();
        let is_whole = parser.advance(&kept.bytes) == Ok(Some(kept.bytes.len()));
        let Some(&position) = self.keys.get(self.next).filter(|_| is_whole) else {
            return Err(lost_track());
        };
        let (reply, mut slots) = (parser.reply(&kept.bytes), Slots::new());
        let taken = self.job.take(position, reply, &mut slots, sink, &kept.node);
        self.taken(taken, call)
    }

    /// Gives each key that is in no lane to the lane of the node that has its slot.
    fn adopt(&mut self, call: &Call<'_>) -> Attempt<()> {
        if self.orphans.is_empty() {
            return Ok(());
        }
        let map = self.cluster.map(call).map_err(in_general)?;
        // Only the first time nobody waits for a connection with others in hand; and then all
        // reads take theirs in one order, so that none waits for another that waits for it.
        let may_wait = self.lanes.is_empty();
        let mut unserved = None;
        let mut lane_of_shard = vec![None; map.shards().len()];
        let mut orphans = std::mem::take(&mut self.orphans);
        orphans.sort_unstable();
        for Question { index, .. } in orphans {
            let question = Question { index, is_asking: false };
            let Some(&position) = self.keys.get(index) else { continue };
            let (key, project) = self.job.key(position);
            let slot = slot_of(key, project);
            let Some(shard_index) = map.shard_index(slot) else {
                unserved = Some(slot);
                self.orphans.push(question);
                continue;
            };
            let lane = match lane_of_shard.get(shard_index).copied().flatten() {
                Some(lane) => lane,
                None => {
                    let Some(address) = self.node_for(&map, shard_index) else {
                        return Err(lost_track());
                    };
                    self.lane_to(&address)
                }
            };
            if let Some(entry) = lane_of_shard.get_mut(shard_index) {
                *entry = Some(lane);
            }
            self.ask(lane, question);
        }
        if let Some(slot) = unserved {
            return Err(in_general(Error::new(
                ErrorKind::StoreUnavailable,
                format!("no node of the Redis Cluster serves slot {slot} now"),
            )));
        }
        self.connect(may_wait, call)
    }

    fn connect(&mut self, may_wait: bool, call: &Call<'_>) -> Attempt<()> {
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.sort_by_key(|index| self.lanes.get(*index).map(|lane| lane.pool.address().clone()));
        for index in order {
            let Some(lane) = self.lanes.get_mut(index) else { continue };
            lane.sort();
            if lane.has_questions() {
                lane.connect(may_wait, call).map_err(at(index))?;
            }
        }
        Ok(())
    }

    /// The node of a shard that this read asks.
    fn node_for(&self, map: &SlotMap, shard_index: usize) -> Option<Address> {
        let shard = map.shards().get(shard_index)?;
        if !self.cluster.options().read_from_replicas {
            return Some(shard.master.clone());
        }
        let all = std::iter::once(&shard.master).chain(&shard.replicas);
        let willing: Vec<&Address> = all.filter(|node| !self.avoided.contains(node)).collect();
        let chosen = willing.get(self.turn % willing.len().max(1)).copied();
        Some(chosen.unwrap_or(&shard.master).clone())
    }

    /// The lane to a node, a new one if need be.
    fn lane_to(&mut self, address: &Address) -> usize {
        let known = self.lanes.iter().position(|lane| lane.pool.address() == address);
        known.unwrap_or_else(|| {
            self.lanes.push(Lane::new(self.cluster.pool(address)));
            self.lanes.len() - 1
        })
    }

    fn ask(&mut self, lane: usize, question: Question) {
        if let (Some(entry), Some(talk)) =
            (self.lane_of.get_mut(question.index), self.lanes.get_mut(lane))
        {
            *entry = lane;
            talk.add(question);
        }
    }

    fn top_up_all(&mut self, call: &Call<'_>) -> Attempt<()> {
        (0..self.lanes.len()).try_for_each(|lane| self.top_up(lane, call))
    }

    fn top_up(&mut self, lane: usize, call: &Call<'_>) -> Attempt<()> {
        let Some(talk) = self.lanes.get_mut(lane) else { return Err(lost_track()) };
        talk.top_up(&self.job, &self.keys, call).map_err(at(lane))
    }

    /// A node does not have a key (any more): very likely it has others neither that it was
    /// asked for. All its answers are taken now, so that those keys travel on together.
    fn redirected(
        &mut self,
        lane: usize,
        index: usize,
        redirected: Redirected,
        call: &Call<'_>,
    ) -> Attempt<()> {
        let mut later = self.redirect(index, redirected);
        loop {
            let Some(talk) = self.lanes.get_mut(lane) else { return Err(lost_track()) };
            if !talk.is_waiting() {
                self.orphans.extend(talk.take_unsent());
                break;
            }
            let Answer { index, reply, pool } = talk.receive(call).map_err(at(lane))?;
            match Redirected::of(&reply, pool) {
                Some(redirected) => later = self.redirect(index, redirected).or(later),
                None => drop(self.kept.insert(index, Kept::of(&reply, pool))),
            }
        }
        // Those to be asked for elsewhere come first there: the rows wait for them.
        self.lanes.iter_mut().for_each(Lane::sort);
        match later {
            Some(error) => Err(in_general(error)),
            None => self.adopt(call),
        }
    }

    /// Sends one key on; the error where that is not to be done at once.
    fn redirect(&mut self, index: usize, redirected: Redirected) -> Option<Error> {
        let Redirected { redirect, error, from } = redirected;
        let times = self.redirects.entry(index).or_default();
        *times += 1;
        let is_in_circles = *times > MAX_REDIRECTS;
        if is_in_circles {
            *times = 0;
        }
        let mut is_for_later = is_in_circles;
        match redirect {
            Redirect::Ask { to } if !is_in_circles => {
                let lane = self.lane_to(&to);
                self.ask(lane, Question { index, is_asking: true });
                return None;
            }
            Redirect::Moved { slot, to } => self.cluster.moved(slot, &to),
            Redirect::Ask { .. } => {}
            Redirect::Later => {
                is_for_later = true;
                self.avoid(from);
            }
        }
        self.orphans.push(Question { index, is_asking: false });
        is_for_later.then_some(error)
    }

    /// A lane whose connection broke, or that never had one.
    fn lose(&mut self, lane: usize, error: &Error) {
        let Some(talk) = self.lanes.get_mut(lane) else { return };
        self.orphans.extend(talk.abandon());
        if matches!(error.kind(), ErrorKind::StoreUnavailable | ErrorKind::StoreTimeout) {
            talk.pool.close_idle();
            let address = talk.pool.address().clone();
            self.cluster.doubt(&address);
            self.avoid(address);
        }
    }

    fn avoid(&mut self, address: Address) {
        if self.cluster.options().read_from_replicas && !self.avoided.contains(&address) {
            self.avoided.push(address);
        }
    }

    /// A node refused HGETALL. Whatever is under way was asked for with it, and would be taken
    /// for something else now: those connections are closed, and the rest is asked for anew.
    fn start_again_with_hmget(&mut self, call: &Call<'_>) -> Attempt<()> {
        self.lanes.drain(..).for_each(Lane::finish);
        self.kept.clear();
        self.job.give_up_hgetall();
        let left = self.next..self.keys.len();
        self.orphans = left.map(|index| Question { index, is_asking: false }).collect();
        self.adopt(call)?;
        self.top_up_all(call)
    }
}

/// An answer that sends a key elsewhere.
struct Redirected {
    redirect: Redirect,
    /// What to say if the key is not sent on.
    error: Error,
    from: Address,
}

impl Redirected {
    /// `None`: the answer is another.
    fn of(reply: &Reply<'_>, pool: &Pool) -> Option<Self> {
        let text = reply.error()?;
        let redirect = Redirect::parse(text, pool.address())?;
        let error = match redirect {
            Redirect::Later => refusal::refused(pool.node(), "a read", text),
            Redirect::Moved { .. } | Redirect::Ask { .. } => Error::new(
                ErrorKind::StoreUnavailable,
                format!(
                    "the nodes of the Redis Cluster send each other a key; {} last said {}",
                    pool.node(),
                    text.escape_ascii()
                ),
            ),
        };
        Some(Redirected { redirect, error, from: pool.address().clone() })
    }
}

impl Kept {
    fn of(reply: &Reply<'_>, pool: &Pool) -> Self {
        Kept { bytes: reply.bytes().to_vec(), node: pool.node().clone() }
    }
}

/// Makes a failure of a lane's out of an error.
fn at(lane: usize) -> impl Fn(Error) -> Failure {
    move |error| Failure { error, lane: Some(lane) }
}

fn in_general(error: Error) -> Failure {
    Failure { error, lane: None }
}

#[cold]
fn lost_track() -> Failure {
    in_general(Error::new(ErrorKind::Internal, "a key of a read is in no lane of the cluster"))
}
