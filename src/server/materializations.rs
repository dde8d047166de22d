//! `POST /materialize` and `POST /materialize-incremental`: each on a thread of its own, one at a
//! time for a view, within the request or, with `?async=true`, after it.

use std::collections::{BTreeMap, HashSet};
use std::result::Result as Outcome;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::fields::{Fields, parse};
use super::host::{Host, HostedMaterialization, Raised};
use super::metrics::{self, Metrics};
use super::reply::Reply;
use super::request::Request;
use super::tree::write_text;
use super::writes::{Access, MayWrite};
use super::{failure, iso};
use crate::call::{Call, Interrupt, Uninterrupted, WAIT_SLICE, now_micros};
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::materialize::{
    KeptByOthers, Ledger, MaterializeRequest, Progress, ViewReport, Window, divide, materialize,
    select_views,
};
use crate::registry::cache::RegistryCache;
use crate::registry::{Catalog, ViewKind, ViewState};
use crate::runtime;
use crate::store::OnlineStore;

/// Materializations that clients wait for, at one time.
const AWAITED: usize = 4;
/// Those that they don't wait for, as Feast has it (`FEAST_MATERIALIZE_MAX_WORKERS`).
const ASYNC_WORKERS: usize = 2;
/// To put back the state of a view when all else has failed.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// What the handlers of materializations need.
pub struct Materializations {
    job: Arc<Shared>,
    awaited: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

/// What every job needs.
struct Shared {
    config: Arc<RepoConfig>,
    registry: RegistryCache,
    // `None`: a store that only the host can write.
    online: Option<Arc<dyn OnlineStore>>,
    host: Arc<dyn Host>,
    busy: Busy,
    is_stopped: AtomicBool,
}

/// One materialization.
struct Job {
    native: Vec<String>,
    // Each with the reason.
    hosted: BTreeMap<String, String>,
    window: Window,
    every_row_until: Option<i64>,
    order: HostedMaterialization,
}

/// What the body and the query of a request say.
struct Order {
    is_async: bool,
    force: bool,
    start: Option<String>,
    end: Option<String>,
    views: Option<Vec<String>>,
    disable_event_timestamp: bool,
    full_feature_names: bool,
    version: Option<String>,
    is_incremental: bool,
}

impl Materializations {
    /// Materializes views of `registry` into `online`; without it the host does them all.
    pub fn new(
        config: Arc<RepoConfig>,
        registry: RegistryCache,
        online: Option<Arc<dyn OnlineStore>>,
        host: Arc<dyn Host>,
    ) -> Self {
        let busy = Busy::default();
        let is_stopped = AtomicBool::new(false);
        Materializations {
            job: Arc::new(Shared { config, registry, online, host, busy, is_stopped }),
            awaited: Arc::new(Semaphore::new(AWAITED)),
            workers: Arc::new(Semaphore::new(async_workers())),
        }
    }

    /// `POST /materialize`.
    pub async fn materialize(&self, request: &Request, may: &MayWrite<'_>) -> Reply {
        self.answer(request, false, may).await.unwrap_or_else(|reply| reply)
    }

    /// `POST /materialize-incremental`.
    pub async fn materialize_incremental(&self, request: &Request, may: &MayWrite<'_>) -> Reply {
        self.answer(request, true, may).await.unwrap_or_else(|reply| reply)
    }

    /// Makes those that go on end soon; their views are as before then, but for rows that are
    /// written already.
    pub fn stop(&self) {
        self.job.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Whether none goes on.
    pub fn is_idle(&self) -> bool {
        self.job.busy.is_idle()
    }

    async fn answer(
        &self,
        request: &Request,
        is_incremental: bool,
        may: &MayWrite<'_>,
    ) -> Outcome<Reply, Reply> {
        let order = Order::of(request, is_incremental)?;
        let begun = runtime::block(|| self.job.begin(&order, may)).await;
        let (views, job) = begun.map_err(|error| failure::reply(&error))??;
        let shared = self.job.clone();
        if !order.is_async {
            let turn = acquire(&self.awaited).await?;
            let outcome = on_thread(turn, move || shared.run(&job)).await;
            return outcome.map(|()| Reply::json(200, "null")).map_err(|error| reply(&error));
        }
        let workers = self.workers.clone();
        tokio::spawn(async move {
            let Ok(turn) = acquire(&workers).await else { return };
            // It logs how it ends.
            let _ = on_thread(turn, move || shared.run_unawaited(&job)).await;
        });
        let mut body = "{\"status\":\"accepted\",\"feature_views\":".to_owned();
        write_names(&mut body, &views);
        body.push('}');
        Ok(Reply::json(202, body))
    }
}

impl Order {
    fn of(request: &Request, is_incremental: bool) -> Outcome<Self, Reply> {
        let json = parse(&request.body, request.is_json)?;
        let mut fields = Fields::new(json.as_ref());
        let is_async = fields.query_flag(&request.query, "async");
        let force = fields.query_flag(&request.query, "force");
        fields.begin_body();
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let order = match is_incremental {
            false => Order {
                is_async,
                force,
                start: owned(fields.optional_text("start_ts")),
                end: owned(fields.optional_text("end_ts")),
                views: fields.optional_texts("feature_views"),
                disable_event_timestamp: fields.flag_or("disable_event_timestamp", false),
                full_feature_names: fields.flag_or("full_feature_names", false),
                version: owned(fields.optional_text("version")),
                is_incremental,
            },
            true => Order {
                is_async,
                force,
                start: None,
                end: Some(fields.text("end_ts").to_owned()),
                views: fields.optional_texts("feature_views"),
                disable_event_timestamp: false,
                full_feature_names: fields.flag_or("full_feature_names", false),
                version: owned(fields.optional_text("version")),
                is_incremental,
            },
        };
        fields.check()?;
        Ok(order)
    }

    /// Whether a version can be materialized at all.
    fn check_version(&self, config: &RepoConfig) -> Outcome<(), Reply> {
        if self.version.is_none() {
            return Ok(());
        }
        if self.views.as_ref().is_none_or(|views| views.len() != 1) {
            let message = "--version requires --views with exactly one feature view.";
            return Err(Reply::message(400, message));
        }
        if !config.registry.enable_online_feature_view_versioning {
            let message = "Version-aware materialization requires \
                           'enable_online_feature_view_versioning: true' under 'registry' in \
                           feature_store.yaml.";
            return Err(Reply::message(400, message));
        }
        Ok(())
    }

    /// Begin and end, microseconds since the epoch; no begin for an incremental one.
    fn times(&self) -> Outcome<(Option<i64>, i64), Reply> {
        if self.disable_event_timestamp {
            return Ok((Some(0), now_micros()));
        }
        let micros = |text: &Option<String>| match text.as_deref() {
            None | Some("") => {
                Err("start_ts and end_ts are required when disable_event_timestamp \
                                    is False"
                    .to_owned())
            }
            Some(text) => match iso::instant(text) {
                Ok(moment) => Ok(moment.micros),
                Err(why) => Err(format!("Invalid timestamp format: {why}")),
            },
        };
        let times = || {
            let start = if self.is_incremental { None } else { Some(micros(&self.start)?) };
            Ok((start, micros(&self.end)?))
        };
        let (start, end) = times().map_err(|why: String| Reply::message(422, &why))?;
        if start.is_some_and(|start| start >= end) {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (start, end) = (text(&self.start), text(&self.end));
            let message = format!("start_ts ({start}) must be before end_ts ({end})");
            return Err(Reply::message(422, &message));
        }
        Ok((start, end))
    }
}

impl Shared {
    /// What is to be done, once it is clear that it may be, and the views that it is about. Those
    /// of an asynchronous one are marked.
    fn begin(&self, order: &Order, may: &MayWrite<'_>) -> Outcome<(Vec<String>, Job), Reply> {
        order.check_version(&self.config)?;
        let catalog =
            self.registry.refresh(Call::unlimited()).map_err(|error| failure::reply(&error))?;
        let names = order.views.as_deref();
        let (mut native, mut hosted) = divide(&catalog, &self.config, names).map_err(unfit)?;
        let chosen = select_views(&catalog, names).map_err(unfit)?;
        let views: Vec<String> = chosen.iter().map(|view| view.name.clone()).collect();
        if order.version.is_some() {
            let asked = "a version is asked for".to_owned();
            hosted = native.drain(..).map(|view| (view, asked.clone())).chain(hosted).collect();
        }
        may(&catalog, &views, Access::WriteOnline)?;
        let (start, end) = order.times()?;
        if order.is_async {
            self.mark(&catalog, &views, order.force)?;
        }
        let window = match start {
            Some(start) => Window::Full { start, end },
            None => Window::Incremental { end, now: now_micros(), overlap: 0 },
        };
        let every_row_until = order.disable_event_timestamp.then_some(end);
        let order = HostedMaterialization {
            views: hosted.keys().cloned().collect(),
            start,
            end,
            disable_event_timestamp: order.disable_event_timestamp,
            full_feature_names: order.full_feature_names,
            version: order.version.clone(),
        };
        Ok((views, Job { native, hosted, window, every_row_until, order }))
    }

    /// Marks the views as being materialized, so that nobody else begins.
    fn mark(&self, catalog: &Catalog, views: &[String], force: bool) -> Outcome<(), Reply> {
        let is_marked = |name: &&String| {
            catalog.view(name).is_ok_and(|view| view.state == ViewState::Materializing)
        };
        let marked: Vec<String> = views.iter().filter(is_marked).cloned().collect();
        if !marked.is_empty() && !force {
            return Err(conflict(&marked));
        }
        for view in views {
            self.set_state(view, ViewState::Materializing, |state| {
                state != ViewState::Materializing
            });
        }
        Ok(())
    }

    /// Sets a view's state, if its present one is to be changed. What is in the way is logged: the
    /// materialization itself will meet it.
    fn set_state(&self, name: &str, state: ViewState, is_changed: impl Fn(ViewState) -> bool) {
        let call = Call { deadline: Some(Instant::now() + CLEAN_UP), interrupt: &Uninterrupted };
        let change = || -> Result<()> {
            let catalog = self.registry.refresh(call)?;
            let view = catalog.view(name)?;
            if view.kind != ViewKind::OnDemand && is_changed(view.state) {
                self.registry.set_state(call, name, state)?;
            }
            Ok(())
        };
        if let Err(error) = change() {
            log::warn!("the state of view '{name}' can't be set to {}: {error}", state.name());
        }
    }

    /// Does it, and logs why it failed, if it did.
    fn run_unawaited(&self, job: &Job) -> Result<()> {
        let outcome = self.run(job);
        if let Err(error) = &outcome {
            log::error!("an asynchronous materialization failed: {error}");
            for view in job.native.iter().chain(job.hosted.keys()) {
                self.set_state(view, ViewState::Generated, |now| now == ViewState::Materializing);
            }
        }
        outcome
    }

    fn run(&self, job: &Job) -> Result<()> {
        let call = Call { deadline: None, interrupt: self };
        let views: Vec<&String> = job.native.iter().chain(job.hosted.keys()).collect();
        let _turn = self.busy.wait(&views, &call)?;
        let mut first_failure = None;
        if !job.native.is_empty() {
            let online = self
                .online
                .as_ref()
                .ok_or_else(|| Error::new(ErrorKind::NeedsFeast, "the online store is Feast's"))?;
            let request = MaterializeRequest {
                views: Some(job.native.clone()),
                window: job.window,
                every_row_until: job.every_row_until,
            };
            let (ours, theirs) = (&self.registry, KeptByOthers(&self.registry));
            let ledger: &dyn Ledger = if ours.is_given() { &theirs } else { ours };
            let done = materialize(
                &request,
                ledger,
                online.as_ref(),
                &self.config,
                &Logged::default(),
                &call,
            )?;
            first_failure = done.failures.into_iter().next().map(|failure| failure.error);
        }
        if !job.hosted.is_empty() {
            for (view, why) in &job.hosted {
                log::info!(target: LOG, "view '{view}': through Feast: {why}");
            }
            let begun = Instant::now();
            let hosted = self.host.materialize(&job.order);
            let outcome = match &hosted {
                Ok(()) => metrics::Outcome::Success,
                Err(_) => metrics::Outcome::Error,
            };
            for view in job.hosted.keys() {
                Metrics::of_process().materialization(view, outcome, begun.elapsed());
            }
            // Feast has written it.
            let seen = self.registry.refresh(call);
            first_failure = first_failure.or(hosted.err()).or(seen.err());
        }
        first_failure.map_or(Ok(()), Err)
    }
}

impl Interrupt for Shared {
    fn check(&self) -> Result<()> {
        match self.is_stopped.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Interrupted, "the server stops")),
        }
    }
}

/// The views that are being materialized by this process.
#[derive(Default)]
struct Busy {
    views: Mutex<HashSet<String>>,
    freed: Condvar,
}

impl Busy {
    /// Waits until none of the views is being materialized; then they are, until the turn ends.
    fn wait(&self, views: &[&String], call: &Call<'_>) -> Result<BusyTurn<'_>> {
        // Held for moments in which nothing panics.
        let mut busy = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        while views.iter().any(|view| busy.contains(*view)) {
            call.check()?;
            let waited = self.freed.wait_timeout(busy, WAIT_SLICE);
            busy = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let views: Vec<String> = views.iter().map(|view| (*view).clone()).collect();
        busy.extend(views.iter().cloned());
        Ok(BusyTurn { busy: self, views })
    }

    fn is_idle(&self) -> bool {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

struct BusyTurn<'a> {
    busy: &'a Busy,
    views: Vec<String>,
}

impl Drop for BusyTurn<'_> {
    fn drop(&mut self) {
        let mut busy = self.busy.views.lock().unwrap_or_else(PoisonError::into_inner);
        self.views.iter().for_each(|view| {
            busy.remove(view);
        });
        self.busy.freed.notify_all();
    }
}

const LOG: &str = "feastrs::materialization";

/// Tells the log how a materialization goes, and counts how it went.
#[derive(Default)]
struct Logged {
    begun: Mutex<BTreeMap<String, Instant>>,
}

impl Logged {
    fn count(&self, view: &str, outcome: metrics::Outcome) {
        // Held for moments in which nothing panics.
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(view);
        let duration = begun.map(|begun| begun.elapsed()).unwrap_or_default();
        Metrics::of_process().materialization(view, outcome, duration);
    }
}

impl Progress for Logged {
    fn view_started(&self, view: &str, total_rows: u64) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.insert(view.to_owned(), Instant::now());
        drop(begun);
        log::info!(target: LOG, "view '{view}': its source has {total_rows} rows");
    }

    fn advanced(&self, _view: &str, _rows: u64) {}

    fn view_finished(&self, report: &ViewReport) {
        self.count(&report.view, metrics::Outcome::Success);
        log::info!(
            target: LOG,
            "view '{}': {} rows read, {} entities written, {} older than the store, {:.1} s",
            report.view,
            report.rows_read,
            report.entities_written,
            report.rows_older,
            report.seconds
        );
    }

    fn view_failed(&self, view: &str, error: &Error) {
        self.count(view, metrics::Outcome::Error);
        log::error!(target: LOG, "{error}");
    }
}

/// Whether or not somebody still waits for it, `work` is done to its end, and `turn` lasts as long.
async fn on_thread(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<()> {
    let (tell, hear) = oneshot::channel();
    let body = move || {
        let outcome = work();
        drop(turn);
        // Nobody waits for it any more: then it was logged.
        let _ = tell.send(outcome);
    };
    thread::Builder::new().name("feastrs-materialize".to_owned()).spawn(body).map_err(
        |source| {
            Error::new(ErrorKind::Io, "can't start a thread to materialize on").with_source(source)
        },
    )?;
    hear.await.map_err(|source| {
        Error::new(ErrorKind::Internal, "a materialization broke off").with_source(source)
    })?
}

async fn acquire(turns: &Arc<Semaphore>) -> Outcome<OwnedSemaphorePermit, Reply> {
    // It is never closed.
    turns.clone().acquire_owned().await.map_err(|error| Reply::message(503, &error.to_string()))
}

fn async_workers() -> usize {
    const VARIABLE: &str = "FEAST_MATERIALIZE_MAX_WORKERS";
    let Ok(text) = std::env::var(VARIABLE) else { return ASYNC_WORKERS };
    match text.trim().parse::<i64>() {
        Ok(number) => usize::try_from(number).unwrap_or(1).max(1),
        Err(_) => {
            log::warn!("{VARIABLE} is {text:?}, which is no number; {ASYNC_WORKERS} is used");
            ASYNC_WORKERS
        }
    }
}

fn write_names(out: &mut String, names: &[String]) {
    out.push('[');
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, name);
    }
    out.push(']');
}

#[cold]
fn conflict(views: &[String]) -> Reply {
    let quoted: Vec<String> = views.iter().map(|view| format!("'{view}'")).collect();
    let message = format!(
        "Cannot start async materialization — the following feature views are already in \
         MATERIALIZING state: [{}]. Use ?force=true to override.",
        quoted.join(", ")
    );
    let mut body = "{\"error\":".to_owned();
    write_text(&mut body, &message);
    body.push_str(",\"feature_views\":");
    write_names(&mut body, views);
    body.push('}');
    Reply::json(409, body)
}

/// The answer where a view can't be materialized: what is not there is 404, the rest contradicts
/// the registry.
#[cold]
fn unfit(error: Error) -> Reply {
    match error.kind() {
        ErrorKind::InvalidArgument => Reply::message(400, &error.to_string()),
        _ => failure::reply(&error),
    }
}

/// The answer where one failed. What is wrong with the source is no fault of the client's.
#[cold]
fn reply(error: &Error) -> Reply {
    match error.kind() {
        _ if Raised::of(error).is_some() => failure::reply(error),
        ErrorKind::InvalidArgument => Reply::message(400, &error.to_string()),
        ErrorKind::TypeMismatch | ErrorKind::ColumnMissing | ErrorKind::NullKey => {
            Reply::message(500, &error.to_string())
        }
        _ => failure::reply(error),
    }
}
