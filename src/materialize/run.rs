//! A materialization from end to end: view after view, each recorded when its last write is
//! acknowledged, its state put back where it fails. A view that fails does not keep the others
//! from being done; Feast stops at the first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::decide::{DecideOptions, Decision, decide};
use super::ledger::Ledger;
use super::plan::ViewPlan;
use super::request::{MaterializeReport, MaterializeRequest, Progress, ViewFailure, ViewReport};
use super::select::{require_native, select_views};
use super::transfer::{Chunk, DEFAULT_WRITE_ROWS, QUEUED_CHUNKS, Reader, Written, write_chunks};
use super::workers::{StopFlag, finished, spawn_named};
use crate::call::Call;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::offline::TimeWindow;
use crate::registry::{FeatureView, ViewState};
use crate::store::OnlineStore;

/// How long the calling thread waits for news before it looks for interrupts.
const NEWS_WAIT: Duration = Duration::from_millis(50);
/// How long putting a view's state back after a failure may take.
const CLEAN_UP: Duration = Duration::from_secs(5);
/// No batch in flight is larger than this, however much memory there is.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// Batches that may be in memory at once: being read, waiting, being encoded and written.
const BATCHES_IN_FLIGHT: usize = 16;

/// Materializes views into `store`. Nothing is written if any of the chosen views is one that
/// only Feast can do; views that fail otherwise are in the report. `Err` where nothing could be
/// begun, or the caller asked to stop. Interrupts and progress are looked after on the calling
/// thread.
pub fn materialize(
    request: &MaterializeRequest,
    ledger: &dyn Ledger,
    store: &dyn OnlineStore,
    config: &RepoConfig,
    progress: &dyn Progress,
    call: &Call<'_>,
) -> Result<MaterializeReport> {
    let catalog = ledger.catalog(call)?;
    let views = select_views(&catalog, request.views.as_deref())?;
    require_native(config, &catalog, &views)?;
    request.window.check()?;
    let mut report = MaterializeReport::default();
    for view in views {
        let done = request.window.of_view(view).and_then(|window| {
            let rows = request.every_row_until.map_or(window, |end| TimeWindow { start: 0, end });
            ViewJob { view, window, rows, store, config, progress, call }.run(ledger)
        });
        match done {
            Ok(done) => {
                progress.view_finished(&done);
                report.views.push(done);
            }
            Err(error) => {
                let view = view.name.clone();
                let error = error.context(format_args!("view '{view}'"));
                progress.view_failed(&view, &error);
                if error.kind() == ErrorKind::Interrupted {
                    return Err(error);
                }
                report.failures.push(ViewFailure { view, error });
            }
        }
    }
    Ok(report)
}

/// One view of a materialization.
struct ViewJob<'a> {
    view: &'a FeatureView,
    // The interval that is recorded.
    window: TimeWindow,
    // The rows that count.
    rows: TimeWindow,
    store: &'a dyn OnlineStore,
    config: &'a RepoConfig,
    progress: &'a dyn Progress,
    call: &'a Call<'a>,
}

impl ViewJob<'_> {
    fn run(&self, ledger: &dyn Ledger) -> Result<ViewReport> {
        let began = Instant::now();
        let plan = ViewPlan::new(self.view, self.rows, self.config, self.call)?;
        let state_before = self.begin(ledger)?;
        let written = self.write(&plan).and_then(|report| {
            ledger.record(self.view, self.window.start, self.window.end, self.call)?;
            Ok(report)
        });
        match (written, state_before) {
            (Ok(report), _) => Ok(ViewReport { seconds: began.elapsed().as_secs_f64(), ..report }),
            (Err(error), None) => Err(error),
            (Err(error), Some(state)) => {
                // A call that was interrupted still cleans up after itself.
                let deadline = Some(Instant::now() + CLEAN_UP);
                let call = Call { deadline, ..Call::unlimited() };
                // The first failure is the one to tell.
                if let Err(also) = ledger.set_state(self.view, state, &call) {
                    log::warn!("the state of view '{}' was not put back: {also}", self.view.name);
                }
                Err(error)
            }
        }
    }

    /// Marks the view as being materialized, and says what to go back to on failure; `None`
    /// for a view whose state is not tracked (`feast/feature_store.py::materialize`).
    fn begin(&self, ledger: &dyn Ledger) -> Result<Option<ViewState>> {
        match self.view.state {
            ViewState::Unspecified => Ok(None),
            ViewState::Materializing => Ok(Some(ViewState::Generated)),
            ViewState::Generated | ViewState::AvailableOnline => {
                ledger.set_state(self.view, ViewState::Materializing, self.call)?;
                Ok(Some(self.view.state))
            }
            ViewState::Created => Err(Error::new(
                ErrorKind::InvalidArgument,
                "can't go from CREATED to MATERIALIZING; run `feast apply` first",
            )),
        }
    }

    fn write(&self, plan: &ViewPlan) -> Result<ViewReport> {
        self.store.prepare(std::slice::from_ref(&plan.stored), self.call)?;
        self.progress.view_started(&plan.view, plan.source.rows());
        let stop = StopFlag::new(plan.source.stop());
        let worker_call = Call { deadline: self.call.deadline, interrupt: &stop };
        let mut tally = Tally::default();
        let searched = AtomicU64::new(0);
        let decision = thread::scope(|scope| {
            let (news, hear) = channel();
            let mut writers = Vec::new();
            let mut handles = Vec::new();
            for _ in 0..self.writers() {
                let (send, receive) = sync_channel(QUEUED_CHUNKS);
                writers.push(send);
                let news = news.clone();
                let (stop, call) = (&stop, &worker_call);
                handles.push(spawn_named(scope, "feastrs-write", move || {
                    stop.guard(|| {
                        write_chunks(plan, receive, self.write_rows(), self.store, call, &news)
                    })
                }));
            }
            let reader = spawn_named(scope, "feastrs-read", {
                let (stop, call, searched) = (&stop, &worker_call, &searched);
                move || stop.guard(|| self.read(plan, writers, searched, call, news))
            });
            let asked = self.listen(&hear, &stop, plan, &searched, &mut tally);
            let ended = handles.into_iter().map(|handle| handle.and_then(finished)).collect();
            verdict(asked, ended, reader.and_then(finished))
        })?;
        self.progress.advanced(&plan.view, plan.source.rows().saturating_sub(tally.source_rows));
        Ok(ViewReport {
            view: plan.view.clone(),
            start: self.window.start,
            end: self.window.end,
            rows_read: decision.rows_read,
            entities_written: tally.written,
            rows_older: tally.older,
            null_keys: decision.null_keys,
            seconds: 0.0,
        })
    }

    /// The reading thread: both passes. It holds a sender of news only so that the listener
    /// hears the end of everybody's work as one.
    fn read(
        &self,
        plan: &ViewPlan,
        writers: Vec<SyncSender<Chunk>>,
        searched: &AtomicU64,
        call: &Call<'_>,
        _news: Sender<Written>,
    ) -> Result<Decision> {
        let options = DecideOptions {
            table_bytes: self.memory() / 2,
            batch_bytes: self.batch_bytes(),
            skip_null_keys: self.config.materialization.skip_null_keys,
        };
        let decision = decide(plan, options, searched, call)?;
        Reader::new(plan, writers, self.batch_bytes(), self.write_rows())
            .run(&decision.rows, call)?;
        Ok(decision)
    }

    /// Passes news on until all workers have ended; tells them to stop when the caller asks.
    fn listen(
        &self,
        hear: &Receiver<Written>,
        stop: &StopFlag,
        plan: &ViewPlan,
        searched: &AtomicU64,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut asked = Ok(());
        loop {
            match hear.recv_timeout(NEWS_WAIT) {
                Ok(news) => {
                    tally.add(news);
                    self.progress.advanced(&plan.view, news.source_rows);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.progress.waiting(&plan.view, searched.load(Ordering::Relaxed));
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

    /// How many threads encode and write: while one waits for the store, another encodes. SQLite
    /// lets one connection write at a time, and two would only wait for its lock in turn.
    fn writers(&self) -> usize {
        match self.config.online_store {
            OnlineStoreConfig::Sqlite(_) => 1,
            _ => 2,
        }
    }

    fn memory(&self) -> usize {
        let megabytes = usize::try_from(self.config.materialization.max_memory_mb);
        megabytes.unwrap_or(usize::MAX).saturating_mul(1 << 20)
    }

    fn batch_bytes(&self) -> usize {
        (self.memory() / 2 / BATCHES_IN_FLIGHT).min(MAX_BATCH_BYTES)
    }

    fn write_rows(&self) -> usize {
        self.config.materialization.online_write_batch_size.unwrap_or(DEFAULT_WRITE_ROWS)
    }
}

#[derive(Default)]
struct Tally {
    source_rows: u64,
    written: u64,
    older: u64,
}

impl Tally {
    fn add(&mut self, news: Written) {
        self.source_rows += news.source_rows;
        self.written += news.report.written;
        self.older += news.report.older;
    }
}

/// What to tell of several endings: the caller's wish to stop first, then the failure that made
/// the others stop.
fn verdict(
    asked: Result<()>,
    writers: Vec<Result<()>>,
    reader: Result<Decision>,
) -> Result<Decision> {
    asked?;
    let (decision, mut failures) = match reader {
        Ok(decision) => (Some(decision), Vec::new()),
        Err(error) => (None, vec![error]),
    };
    failures.extend(writers.into_iter().filter_map(Result::err));
    let first = failures.iter().position(|error| error.kind() != ErrorKind::Interrupted);
    match (failures.is_empty(), decision) {
        (true, Some(decision)) => Ok(decision),
        _ => Err(failures.swap_remove(first.unwrap_or(0))),
    }
}
