//! One view from end to end: recorded when its last write is acknowledged, its state put back
//! where it fails. Must not know whether other views are under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::decide::Decision;
use super::ledger::Ledger;
use super::news::Teller;
use super::passes::Passes;
use super::plan::ViewPlan;
use super::request::ViewReport;
use super::transfer::{DEFAULT_WRITE_ROWS, QUEUED_CHUNKS, Written, write_chunks};
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

/// One view of a materialization.
pub(super) struct ViewJob<'a> {
    pub view: &'a FeatureView,
    /// The interval that is recorded.
    pub window: TimeWindow,
    /// The rows that count.
    pub rows: TimeWindow,
    pub store: &'a dyn OnlineStore,
    pub config: &'a RepoConfig,
    pub budget: &'a Budget,
    pub news: &'a Teller<'a>,
    pub call: &'a Call<'a>,
}

impl ViewJob<'_> {
    pub fn run(&self, ledger: &dyn Ledger) -> Result<ViewReport> {
        let began = Instant::now();
        let plan = ViewPlan::new(self.view, self.rows, self.config, self.call)?;
        let share = self.budget.claim(plan.source.rows(), self.call)?;
        let state_before = self.begin(ledger)?;
        let written = self.write_for_good(&plan, share.bytes()).and_then(|report| {
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

    /// Writes; what was acknowledged is still there in the end.
    fn write_for_good(&self, plan: &ViewPlan, memory: usize) -> Result<ViewReport> {
        let watch = self.store.watch(self.call)?;
        let report = self.write(plan, memory)?;
        watch.confirm(self.call)?;
        Ok(report)
    }

    fn write(&self, plan: &ViewPlan, memory: usize) -> Result<ViewReport> {
        self.store.prepare(std::slice::from_ref(&plan.stored), self.call)?;
        self.news.started(plan.source.rows());
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
            let passes = Passes {
                plan,
                memory,
                write_rows: self.write_rows(),
                skip_null_keys: self.config.materialization.skip_null_keys,
                searched: &searched,
                stop: &stop,
                call: &worker_call,
            };
            let reader = spawn_named(scope, "feastrs-read", move || {
                let outcome = passes.stop.guard(|| passes.run(writers));
                // So that the end of everybody's work is heard as one.
                drop(news);
                outcome
            });
            let asked = self.listen(&hear, &stop, &searched, &mut tally);
            let ended = handles.into_iter().map(|handle| handle.and_then(finished)).collect();
            verdict(asked, ended, reader.and_then(finished))
        })?;
        self.news.advanced(plan.source.rows().saturating_sub(tally.source_rows));
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

    /// Passes news on until all workers have ended; tells them to stop when the caller asks.
    fn listen(
        &self,
        hear: &Receiver<Written>,
        stop: &StopFlag,
        searched: &AtomicU64,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut asked = Ok(());
        loop {
            match hear.recv_timeout(NEWS_WAIT) {
                Ok(news) => {
                    tally.add(news);
                    self.news.advanced(news.source_rows);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.news.waiting(searched.load(Ordering::Relaxed));
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
