//! Writes to a cluster: each row to the node that has its slot, all nodes at work at once. New
//! entities are sent whole, the others go by the script that compares and writes: a transaction
//! may not span slots, and few rows share one. Where a node takes no scripts, it is a
//! transaction for each slot all the same.
//!
//! A row that its node sends on, or that nobody acknowledged, is planned again; all others are
//! done. Must not know how a row is encoded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::learned::Manner;
use super::super::options::Address;
use super::super::pool::{Lease, Pool};
use super::super::refusal;
use super::super::script::Scripted;
use super::super::serialized::Form;
use super::super::writer::Writer;
use super::attempts::Attempts;
use super::nodes::Cluster;
use super::redirect::Redirect;
use super::slot::slot_of;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::WriteReport;

/// Rows that travel together to one node.
const CHUNK_ROWS: usize = 100;
/// Bytes of commands that travel together, about.
const CHUNK_BYTES: usize = 1 << 20;
/// A row that was sent on so often, on average, is tried again later.
const MAX_REDIRECTS: usize = 8;
/// A node that forgets the script so often, and runs it for no row, is written to without.
const MAX_LOADS: u32 = 3;
/// Chunks under way to one node: it works on one while the next travels.
const CHUNKS_UNDER_WAY: usize = 2;

pub(in super::super) struct ClusterWriter<'a> {
    cluster: &'a Cluster,
    writer: Writer<'a>,
    // Rows that are in no lane.
    left: Vec<Task>,
    lanes: Vec<Lane>,
    // Rows that were sent on since the last that was acknowledged.
    redirects: usize,
    // Why what is left is not to be sent at once.
    later: Option<Error>,
}

/// A row to be written.
#[derive(Clone, Debug)]
struct Task {
    row: usize,
    // The node that it was sent on to, this once.
    ask: Option<Address>,
    // It was sent before: the entity may be there.
    is_again: bool,
}

/// What was sent for a row.
#[derive(Clone, Copy, Debug)]
enum Way {
    Blind,
    Fresh(Form),
    Script,
}

/// What one node has to write.
struct Lane {
    pool: Arc<Pool>,
    lease: Option<Lease>,
    unsent: VecDeque<Task>,
    sent: VecDeque<Vec<(Task, Way)>>,
    // The node does not know the script.
    lacks_script: bool,
    // How often it was told the script since it last ran it.
    loads: u32,
}

/// Why an attempt ended, and in which lane.
struct Failure {
    error: Error,
    lane: Option<usize>,
}

impl<'a> ClusterWriter<'a> {
    pub(in super::super) fn new(cluster: &'a Cluster, writer: Writer<'a>) -> Self {
        let rows = 0..writer.batch.keys.len();
        let left = rows.map(|row| Task { row, ask: None, is_again: false }).collect();
        ClusterWriter { cluster, writer, left, lanes: Vec::new(), redirects: 0, later: None }
    }

    /// Writes everything; gives what was acknowledged.
    pub(in super::super) fn run(mut self, call: &Call<'_>) -> Result<WriteReport> {
        let mut attempts = Attempts::new(self.cluster.options());
        loop {
            let Err(Failure { error, lane }) = self.attempt(call) else { break };
            if let Some(lane) = lane {
                self.lose(lane, &error);
            }
            let report = self.writer.report();
            let progress = usize::try_from(report.written + report.older).unwrap_or(usize::MAX);
            match attempts.judge(error, progress, self.cluster.is_known())? {
                Some(error) => attempts.retry.pause(error, call)?,
                None => call.check()?,
            }
            // A cluster that can't tell now may be able to at the next attempt.
            match self.cluster.refresh(call) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        self.lanes.drain(..).filter_map(|lane| lane.lease).for_each(Lease::give_back);
        Ok(self.writer.report())
    }

    fn attempt(&mut self, call: &Call<'_>) -> std::result::Result<(), Failure> {
        loop {
            self.assign(call).map_err(|error| Failure { error, lane: None })?;
            for lane in 0..self.lanes.len() {
                self.send(lane, call).map_err(|error| Failure { error, lane: Some(lane) })?;
            }
            let mut is_done = true;
            for lane in 0..self.lanes.len() {
                match self.lanes.get_mut(lane).and_then(|lane| lane.sent.pop_front()) {
                    Some(chunk) => self.receive(lane, chunk, call)?,
                    None => continue,
                }
                is_done = false;
            }
            if is_done && self.left.is_empty() && self.lanes.iter().all(|l| l.unsent.is_empty()) {
                return Ok(());
            }
        }
    }

    /// Gives each row that is in no lane to the lane of the node that has its slot.
    fn assign(&mut self, call: &Call<'_>) -> Result<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        let map = self.cluster.map(call)?;
        let mut tasks = std::mem::take(&mut self.left).into_iter();
        while let Some(task) = tasks.next() {
            let address = match &task.ask {
                Some(address) => address.clone(),
                None => {
                    let slot = self.slot(task.row);
                    let shard = map.shard_index(slot).and_then(|index| map.shards().get(index));
                    match shard {
                        Some(shard) => shard.master.clone(),
                        None => {
                            self.left.push(task);
                            self.left.extend(tasks);
                            return Err(Error::new(
                                ErrorKind::StoreUnavailable,
                                format!("no node of the cluster serves slot {slot}"),
                            ));
                        }
                    }
                }
            };
            self.lane(&address).unsent.push_back(task);
        }
        Ok(())
    }

    fn slot(&self, row: usize) -> u16 {
        slot_of(self.writer.batch.keys.get(row), self.writer.project)
    }

    fn lane(&mut self, address: &Address) -> &mut Lane {
        let known = self.lanes.iter().position(|lane| lane.pool.address() == address);
        let index = known.unwrap_or_else(|| {
            self.lanes.push(Lane {
                pool: self.cluster.pool(address),
                lease: None,
                unsent: VecDeque::new(),
                sent: VecDeque::new(),
                lacks_script: false,
                loads: 0,
            });
            self.lanes.len() - 1
        });
        &mut self.lanes[index]
    }

    /// Sends chunks until enough are under way.
    fn send(&mut self, index: usize, call: &Call<'_>) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        if lane.unsent.is_empty() {
            return Ok(());
        }
        if lane.lease.is_none() {
            lane.lease = Some(lane.pool.take(call)?);
        }
        let Some(lease) = &mut lane.lease else { return Ok(()) };
        let connection = &mut lease.connection;
        let writer = &mut self.writer;
        let needs_script = lane.lacks_script || writer.learned.script.sha().is_none();
        if needs_script && lane.sent.is_empty() && !writer.learned.script.is_refused() {
            lane.lacks_script = false;
            lane.loads += 1;
            if lane.loads > MAX_LOADS || !writer.load_anew(connection, call)? {
                writer.learned.script.refuse();
            }
        }
        if writer.learned.script.is_refused() {
            // Whatever is under way first.
            return match lane.sent.is_empty() {
                true => self.run_transactions(index, call),
                false => Ok(()),
            };
        }
        while lane.sent.len() < CHUNKS_UNDER_WAY && !lane.unsent.is_empty() && !lane.lacks_script {
            let mut chunk = Vec::new();
            let commands = connection.commands();
            while chunk.len() < CHUNK_ROWS && commands.bytes().len() < CHUNK_BYTES {
                let Some(task) = lane.unsent.pop_front() else { break };
                if task.ask.is_some() {
                    commands.command(&[b"ASKING"]);
                }
                let is_first = !task.is_again && task.ask.is_none();
                let way = if is_first && writer.is_blind() {
                    writer.encode_row(commands, task.row);
                    Way::Blind
                } else if is_first && writer.fresh.manner() == Some(Manner::Restore) {
                    Way::Fresh(writer.encode_restore(commands, task.row))
                } else {
                    writer.encode_script(commands, task.row);
                    Way::Script
                };
                chunk.push((task, way));
            }
            lane.sent.push_back(chunk);
            connection.set_doing("RESTORE, EVALSHA");
            connection.send(call)?;
        }
        Ok(())
    }

    /// Takes the replies to a chunk. What was not acknowledged when the connection breaks is
    /// written again.
    fn receive(
        &mut self,
        index: usize,
        chunk: Vec<(Task, Way)>,
        call: &Call<'_>,
    ) -> std::result::Result<(), Failure> {
        let (mut there_already, mut fresh) = (0, 0);
        let mut tasks = chunk.into_iter();
        while let Some((task, way)) = tasks.next() {
            match self.receive_one(index, &task, way, call) {
                Ok(Fate::Done { is_written }) => {
                    fresh += usize::from(matches!(way, Way::Fresh(_)));
                    self.writer.acknowledge(1, usize::from(is_written));
                    self.redirects = 0;
                }
                Ok(Fate::There) => {
                    (fresh, there_already) = (fresh + 1, there_already + 1);
                    self.again(index, task);
                }
                Ok(Fate::Again) => self.again(index, task),
                Ok(Fate::Elsewhere(redirect)) => self.redirect(task, redirect),
                Err(error) => {
                    self.left.extend(
                        std::iter::once(task).chain(tasks.map(|(task, _)| task)).map(|task| Task {
                            ask: None,
                            is_again: true,
                            ..task
                        }),
                    );
                    return Err(Failure { error, lane: Some(index) });
                }
            }
        }
        if fresh > 0 {
            self.writer.judge_fresh(fresh, there_already);
        }
        match self.later.take() {
            Some(error) => Err(Failure { error, lane: None }),
            None => Ok(()),
        }
    }

    fn receive_one(
        &mut self,
        index: usize,
        task: &Task,
        way: Way,
        call: &Call<'_>,
    ) -> Result<Fate> {
        let Some(Lane { pool, lease: Some(lease), lacks_script, loads, .. }) =
            self.lanes.get_mut(index)
        else {
            return Err(lost_track());
        };
        let (node, connection) = (pool.node().clone(), &mut lease.connection);
        if task.ask.is_some()
            && let Some(text) = connection.receive(call)?.error()
        {
            return Err(refusal::refused(&node, "ASKING", text));
        }
        let reply = connection.receive(call)?;
        let redirect = reply.error().and_then(|text| Redirect::parse(text, pool.address()));
        let fate = match (redirect, way) {
            (Some(redirect), _) => Fate::Elsewhere(redirect),
            (None, Way::Blind) => match reply.error() {
                Some(text) => return Err(refusal::refused(&node, "HSET", text)),
                None => Fate::Done { is_written: true },
            },
            (None, Way::Fresh(form)) => match reply.error() {
                None => Fate::Done { is_written: true },
                Some(text) if self.writer.is_there(text, form, &node, task.row)? => Fate::There,
                Some(_) => Fate::Again,
            },
            (None, Way::Script) => match self.writer.scripted(reply, &node, task.row)? {
                Scripted::Written => {
                    *loads = 0;
                    Fate::Done { is_written: true }
                }
                Scripted::Older => {
                    *loads = 0;
                    Fate::Done { is_written: false }
                }
                Scripted::NoScript => {
                    *lacks_script = true;
                    Fate::Again
                }
            },
        };
        if matches!(way, Way::Blind) {
            for _ in 1..self.writer.commands_for_row() {
                match connection.receive(call)?.error() {
                    // One that went elsewhere is written anew there.
                    Some(text) if !matches!(fate, Fate::Elsewhere(_)) => {
                        return Err(refusal::refused(&node, "EXPIRE", text));
                    }
                    _ => {}
                }
            }
        }
        Ok(fate)
    }
}

impl ClusterWriter<'_> {
    /// The row is to be written by the same node, after a look at what is there.
    fn again(&mut self, index: usize, task: Task) {
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.unsent.push_back(Task { is_again: true, ask: None, ..task });
        }
    }

    fn redirect(&mut self, task: Task, redirect: Redirect) {
        let mut task = Task { ask: None, ..task };
        self.redirects += 1;
        match redirect {
            Redirect::Moved { slot, to } => self.cluster.moved(slot, &to),
            Redirect::Ask { to } => task.ask = Some(to),
            Redirect::Later => {
                let message = "the cluster can't write some of the rows now";
                self.later = Some(Error::new(ErrorKind::StoreUnavailable, message));
            }
        }
        if self.redirects > MAX_REDIRECTS * self.writer.batch.keys.len() {
            let message = "the nodes of the cluster do not agree on who has a slot";
            self.later = Some(Error::new(ErrorKind::StoreUnavailable, message));
            self.redirects = 0;
        }
        self.left.push(task);
    }

    /// A lane whose connection broke, or that never had one: what it had to write is planned
    /// again, and nobody ever reads the answers that are under way.
    fn lose(&mut self, index: usize, error: &Error) {
        if index >= self.lanes.len() {
            return;
        }
        let lane = self.lanes.remove(index);
        self.cluster.failed(&lane.pool, error);
        let sent = lane.sent.into_iter().flatten();
        self.left.extend(sent.map(|(task, _)| Task { ask: None, is_again: true, ..task }));
        self.left.extend(lane.unsent);
    }

    /// Writes what the lane has to write, a transaction for each slot.
    fn run_transactions(&mut self, index: usize, call: &Call<'_>) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        let tasks: Vec<Task> = lane.unsent.drain(..).collect();
        let Some(mut lease) = lane.lease.take() else { return Err(lost_track()) };
        let mut by_slot: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for task in &tasks {
            by_slot.entry(self.slot(task.row)).or_default().push(task.row);
        }
        let outcome = self.writer.run_chunks(by_slot.into_values(), &mut lease.connection, call);
        lease.give_back();
        let left = self.writer.take_left();
        self.left.extend(left.into_iter().map(|row| Task { row, ask: None, is_again: true }));
        // A slot that is elsewhere, or on its way.
        outcome.map_err(|error| match error.kind() {
            ErrorKind::InvalidConfig => {
                Error::new(ErrorKind::StoreUnavailable, "a slot of the cluster is elsewhere")
                    .with_source(error)
            }
            _ => error,
        })
    }
}

#[cold]
fn lost_track() -> Error {
    Error::new(ErrorKind::Internal, "a node of a cluster was to be written to without a connection")
}

/// What became of a row.
enum Fate {
    Done {
        is_written: bool,
    },
    /// The entity is there: it has to be compared.
    There,
    /// The node did not do it that way.
    Again,
    Elsewhere(Redirect),
}
