//! One view from end to end: one thread reads the source, one reads online and compares, and the
//! calling one looks after progress and interrupts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::compare::Comparison;
use super::coverage::{Coverage, Expiry};
use super::report::{VerifyRequest, ViewVerification};
use super::sample::Sample;
use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::{ErrorKind, Result};
use crate::materialize::Progress;
use crate::materialize::decide::FirstPass;
use crate::materialize::plan::ViewPlan;
use crate::materialize::transfer::{Chunk, QUEUED_CHUNKS, Reader};
use crate::materialize::workers::{StopFlag, finished, spawn_named};
use crate::offline::{CandidateBatch, Decider, NullKeys, RowSet};
use crate::registry::FeatureView;
use crate::store::OnlineStore;

/// How long the calling thread waits for news before it looks for interrupts.
const NEWS_WAIT: Duration = Duration::from_millis(50);
/// No batch in flight is larger than this, however much memory there is.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// Batches that may be in memory at once: being read, waiting, being encoded and compared.
const BATCHES_IN_FLIGHT: usize = 16;
/// Rows in one chunk.
const CHUNK_ROWS: usize = 2_000;

/// One view of a verification.
pub(super) struct ViewJob<'a> {
    pub view: &'a FeatureView,
    pub request: &'a VerifyRequest,
    pub store: &'a dyn OnlineStore,
    pub config: &'a RepoConfig,
    pub progress: &'a dyn Progress<ViewVerification>,
    pub call: &'a Call<'a>,
}

/// What the source says.
struct Searched {
    rows: RowSet,
    rows_read: u64,
    null_keys: NullKeys,
    entities: u64,
    is_estimate: bool,
}

impl ViewJob<'_> {
    /// The view's report; with no window where no rows of it were ever materialized, or none of
    /// those asked for.
    pub fn run(&self) -> Result<ViewVerification> {
        let began = Instant::now();
        let coverage = Coverage::new(self.view, self.request.window);
        let mut report = ViewVerification { view: self.view.name.clone(), ..Default::default() };
        if let Some(window) = coverage.hull() {
            let plan = ViewPlan::new(self.view, window, self.config, self.call)?;
            self.progress.view_started(&self.view.name, plan.source.rows());
            report.window = Some(window);
            self.compare(&plan, &coverage, &mut report)?;
        }
        report.seconds = began.elapsed().as_secs_f64();
        Ok(report)
    }

    fn compare(
        &self,
        plan: &ViewPlan,
        coverage: &Coverage,
        report: &mut ViewVerification,
    ) -> Result<()> {
        let stop = StopFlag::new(plan.source.stop());
        let worker_call = Call { deadline: self.call.deadline, interrupt: &stop };
        let searched = AtomicU64::new(0);
        let expiry = Expiry::new(self.view, self.config);
        let mut done = 0;
        let (searched, mut comparison) = thread::scope(|scope| {
            let (news, hear) = channel();
            let (send, receive) = sync_channel(QUEUED_CHUNKS);
            let (stop, call, searched) = (&stop, &worker_call, &searched);
            let comparison = spawn_named(scope, "feastrs-compare", move || {
                stop.guard(|| self.compare_chunks(plan, expiry, &receive, call, &news))
            });
            let source = spawn_named(scope, "feastrs-read", move || {
                stop.guard(|| self.read(plan, coverage, send, searched, call))
            });
            let asked = self.listen(&hear, stop, searched, &mut done);
            let ended = (source.and_then(finished), comparison.and_then(finished));
            verdict(asked, ended)
        })?;
        if comparison.has_findings() {
            // Whoever replaced it meanwhile may have materialized what it is now.
            plan.source.require_unchanged(self.call)?;
        }
        self.progress.advanced(&self.view.name, plan.source.rows().saturating_sub(done));
        report.rows_read = searched.rows_read;
        report.null_keys = searched.null_keys.count;
        report.entities = searched.entities;
        report.is_estimate = searched.is_estimate;
        report.counts = comparison.counts;
        report.examples = std::mem::take(&mut comparison.examples);
        report.features = comparison.into_features();
        Ok(())
    }

    /// The reading thread: both passes.
    fn read(
        &self,
        plan: &ViewPlan,
        coverage: &Coverage,
        chunks: SyncSender<Chunk>,
        searched: &AtomicU64,
        call: &Call<'_>,
    ) -> Result<Searched> {
        let megabytes = usize::try_from(self.config.materialization.max_memory_mb);
        let memory = megabytes.unwrap_or(usize::MAX).saturating_mul(1 << 20);
        let batch_bytes = (memory / 2 / BATCHES_IN_FLIGHT).min(MAX_BATCH_BYTES);
        let counts = |event| coverage.contains(event);
        let pass = FirstPass { plan, parts: &[], batch_bytes, counts: &counts, searched };
        let found = self.search(pass, memory / 2, call)?;
        Reader::new(plan, vec![chunks], batch_bytes, CHUNK_ROWS).run(&found.rows, call)?;
        Ok(found)
    }

    /// The newest row of each entity, or of each in the sample.
    fn search(&self, pass: FirstPass<'_>, table_bytes: usize, call: &Call<'_>) -> Result<Searched> {
        let mut rows = RowSet::new(pass.plan.source.rows());
        if let Some(size) = self.request.sample {
            let mut sample = Sample::new(size, self.request.seed);
            let (rows_read, null_keys) =
                pass.run(&mut |batch: &CandidateBatch| sample.observe(batch), call)?;
            let (entities, is_estimate) = sample.finish(&mut rows);
            return Ok(Searched { rows, rows_read, null_keys, entities, is_estimate });
        }
        let mut decider = Decider::new(table_bytes);
        let (rows_read, null_keys) =
            pass.run(&mut |batch: &CandidateBatch| decider.observe(batch), call)?;
        decider.finish(&mut rows, call)?;
        let entities = rows.len();
        Ok(Searched { rows, rows_read, null_keys, entities, is_estimate: false })
    }

    /// The comparing thread. `news` hears of rows of the source that are done.
    fn compare_chunks<'p>(
        &'p self,
        plan: &'p ViewPlan,
        expiry: Expiry,
        chunks: &Receiver<Chunk>,
        call: &Call<'_>,
        news: &Sender<u64>,
    ) -> Result<Comparison<'p>> {
        let mut comparison = Comparison::new(plan, self.store, expiry, self.request);
        for chunk in chunks {
            comparison.take(&chunk, call)?;
            // Nobody listens any more only when the call is being stopped.
            let _ = news.send(chunk.source_rows());
        }
        Ok(comparison)
    }

    /// Passes news on until the comparing thread has ended; tells all to stop when the caller
    /// asks.
    fn listen(
        &self,
        hear: &Receiver<u64>,
        stop: &StopFlag<'_>,
        searched: &AtomicU64,
        done: &mut u64,
    ) -> Result<()> {
        let mut asked = Ok(());
        loop {
            match hear.recv_timeout(NEWS_WAIT) {
                Ok(rows) => {
                    *done += rows;
                    self.progress.advanced(&self.view.name, rows);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.progress.waiting(&self.view.name, searched.load(Ordering::Relaxed));
                }
                Err(RecvTimeoutError::Disconnected) => return asked,
            }
            if asked.is_ok() {
                asked = self.call.check();
                if asked.is_err() {
                    stop.set();
                }
            }
        }
    }
}

/// What to tell of several endings: the caller's wish to stop first, then the failure that made
/// the others stop.
fn verdict<A, B>(asked: Result<()>, ended: (Result<A>, Result<B>)) -> Result<(A, B)> {
    asked?;
    match ended {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(first), Err(second)) if first.kind() == ErrorKind::Interrupted => Err(second),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}
