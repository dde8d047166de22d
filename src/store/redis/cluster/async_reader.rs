//! The asynchronous driver of a cluster's [`Plan`]: each lane has the connection to its node
//! that all reads in flight share, or one of its own where it has many keys. Dropped at any
//! moment, it leaves them in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::super::asynchronous::{CHUNK_FIELDS, Coming, Line, Reason, Stop};
use super::super::codec::{CommandBuffer, Replies, Reply};
use super::super::pool::Pool;
use super::super::read_job::ReadJob;
use super::attempts::Attempts;
use super::lane::Lane;
use super::nodes::Cluster;
use super::plan::{Attempt, Failure, Next, Plan, Step, at, in_general, lost_track};
use super::reader::connection_order;
use crate::error::{Error, Result};
use crate::runtime;
use crate::store::RowSink;

pub(in super::super) struct AsyncClusterReader<'a> {
    cluster: &'a Cluster,
    plan: Plan<'a>,
    sink: &'a mut (dyn RowSink + Send),
    // For each lane of the plan.
    links: Vec<Link>,
    started: Instant,
    // The connection that failed last was given up because an answer was overdue: perhaps only
    // for others, who had waited longer.
    is_of_others: bool,
}

struct Link {
    pool: Arc<Pool>,
    // `None`: there is none (yet, or any more); then nothing is under way.
    line: Option<Line>,
    coming: VecDeque<Coming>,
    // Those that have come, and how many of them were taken.
    replies: Replies,
    taken: usize,
}

impl<'a> AsyncClusterReader<'a> {
    pub(in super::super) fn new(
        cluster: &'a Cluster,
        job: ReadJob<'a>,
        sink: &'a mut (dyn RowSink + Send),
    ) -> Self {
        AsyncClusterReader {
            cluster,
            plan: cluster.plan(job),
            sink,
            links: Vec::new(),
            started: Instant::now(),
            is_of_others: false,
        }
    }

    /// Whether a node refused HGETALL and HMGET was used instead.
    pub(in super::super) fn has_given_up_hgetall(&self) -> bool {
        self.plan.has_given_up_hgetall()
    }

    /// Reads everything; whoever awaits it minds the deadline himself.
    pub(in super::super) async fn run(&mut self) -> Result<()> {
        let mut attempts = Attempts::new(self.cluster.options());
        loop {
            let Err(Failure { error, lane }) = self.attempt().await else { break };
            if let Some(lane) = lane {
                self.lose(lane, &error);
            }
            let own_time_is_left = self.started.elapsed() < self.cluster.options().io_timeout;
            if std::mem::take(&mut self.is_of_others) && own_time_is_left {
                continue;
            }
            let (progress, is_known) = (self.plan.progress(), self.cluster.is_known());
            if let Some(error) = attempts.judge(error, progress, is_known)? {
                attempts.retry.pause_async(error).await?;
            }
            // A cluster that can't tell now may be able to at the next attempt.
            let _ = self.cluster.refresh_async().await;
        }
        self.links.drain(..).filter_map(|link| link.line).for_each(Line::give_back);
        Ok(())
    }

    async fn attempt(&mut self) -> Attempt<()> {
        loop {
            let step = match self.plan.next()? {
                Next::Nothing => return Ok(()),
                Next::Send => {
                    self.send().await?;
                    continue;
                }
                Next::Kept => self.plan.take_kept(self.sink)?,
                Next::Answer(lane) => self.answer(lane).await?,
            };
            match step {
                Step::On => {}
                Step::Moved { slot, to } => self.cluster.moved(slot, &to),
                // Lines of this read's own that are owed replies are closed.
                Step::StartAgain => self.links.clear(),
            }
        }
    }

    async fn answer(&mut self, lane: usize) -> Attempt<Step> {
        self.top_up(lane)?;
        let link = self.links.get_mut(lane).ok_or_else(lost_track)?;
        if let Err(stop) = link.wait().await {
            return Err(self.stopped(lane, stop));
        }
        let (reply, node) = link.take().ok_or_else(lost_track)?;
        self.plan.answer(lane, reply, node, self.sink)
    }

    /// Sends to all nodes what they are to be asked for.
    async fn send(&mut self) -> Attempt<()> {
        let map = self.cluster.map_async().await.map_err(in_general)?;
        self.plan.assign(&map)?;
        // Only the first time one waits for one's turn: see the blocking driver.
        let may_wait = self.links.is_empty();
        let lanes = self.plan.lanes();
        self.links.extend(
            lanes
                .iter()
                .skip(self.links.len())
                .map(|lane| Link::new(self.cluster.pool(lane.address()))),
        );
        if may_wait {
            for lane in connection_order(lanes) {
                let key_count = lanes.get(lane).map_or(0, Lane::unsent);
                if let Some(link) = self.links.get_mut(lane) {
                    link.connect(key_count).await.map_err(at(lane))?;
                }
            }
        }
        (0..self.links.len()).try_for_each(|lane| self.top_up(lane))
    }

    /// Sends a chunk of questions, unless there are none or enough are under way.
    fn top_up(&mut self, lane: usize) -> Attempt<()> {
        if !self.plan.lanes().get(lane).is_some_and(Lane::is_sending) {
            return Ok(());
        }
        let link = self.links.get_mut(lane).ok_or_else(lost_track)?;
        let mut commands = CommandBuffer::default();
        let most_fields = if link.is_own() { CHUNK_FIELDS } else { usize::MAX };
        self.plan.next_chunk(lane, most_fields, &mut commands);
        link.send(&commands).map_err(|stop| self.stopped(lane, stop))
    }

    #[cold]
    fn stopped(&mut self, lane: usize, stop: Stop) -> Failure {
        at(lane)(match stop {
            Stop::Failure(failure) => {
                self.is_of_others = failure.reason == Reason::Overdue;
                failure.into()
            }
            Stop::Error(error) => error,
        })
    }

    /// A lane whose connection broke, or that never had one.
    fn lose(&mut self, lane: usize, error: &Error) {
        let Some(link) = self.links.get_mut(lane) else { return };
        *link = Link::new(link.pool.clone());
        let is_suspect = self.cluster.failed(&link.pool, error);
        self.plan.lose(lane, is_suspect);
    }
}

impl Link {
    fn new(pool: Arc<Pool>) -> Self {
        let (coming, replies) = (VecDeque::new(), Replies::default());
        Link { pool, line: None, coming, replies, taken: 0 }
    }

    /// Takes a line for a lane of so many keys, and waits for its turn where it is to have one
    /// of its own.
    async fn connect(&mut self, key_count: usize) -> Result<()> {
        // How many fields they have together is not known of the keys of one node.
        let line = self.pool.asynchronous().line(self.pool.target(), key_count, 0).await?;
        self.line = Some(line);
        Ok(())
    }

    fn is_own(&self) -> bool {
        self.line.as_ref().is_some_and(Line::is_own)
    }

    fn send(&mut self, commands: &CommandBuffer) -> std::result::Result<(), Stop> {
        let line = match self.line.take() {
            Some(line) => line,
            None => self.pool.asynchronous().line_at_once(self.pool.target())?,
        };
        self.coming.push_back(self.line.insert(line).send(commands)?);
        Ok(())
    }

    /// Waits until there is a reply to take.
    async fn wait(&mut self) -> std::result::Result<(), Stop> {
        while self.replies.get(self.taken).is_none()
            && let Some(coming) = self.coming.pop_front()
        {
            (self.replies, self.taken) = (coming.replies().await?, 0);
            if self.is_own() {
                // Small reads go first.
                runtime::give_way().await;
            }
        }
        Ok(())
    }

    /// The next reply of those that have come, and who gave it.
    fn take(&mut self) -> Option<(Reply<'_>, &Arc<str>)> {
        self.taken += 1;
        Some((self.replies.get(self.taken - 1)?, self.pool.node()))
    }
}
