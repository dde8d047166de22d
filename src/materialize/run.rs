//! A materialization from end to end: some views at once, in one budget of memory. A view that
//! fails does not keep the others from being done; Feast stops at the first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::budget::Budget;
use super::ledger::{Ledger, OneAtATime};
use super::news::{News, Teller, What};
use super::request::{MaterializeReport, MaterializeRequest, Progress, ViewFailure, ViewReport};
use super::select::{require_native, select_views};
use super::view::ViewJob;
use super::workers::{finished, spawn_named};
use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::{StopSwitch, TimeWindow};
use crate::registry::FeatureView;
use crate::store::OnlineStore;

/// How long the calling thread waits for news before it looks for interrupts.
const NEWS_WAIT: Duration = Duration::from_millis(50);

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
    let stop = StopSwitch::default();
    let run = Run {
        request,
        views: &views,
        next: AtomicUsize::new(0),
        ledger: &OneAtATime::new(ledger),
        store,
        config,
        budget: Budget::new(config, views.len()),
        call: Call { deadline: call.deadline, interrupt: &stop },
    };
    let mut listener = Listener::new(&views, progress);
    thread::scope(|scope| {
        let (news, hear) = channel();
        let mut handles = Vec::new();
        for _ in 0..run.budget.views() {
            let (run, news) = (&run, news.clone());
            handles.push(spawn_named(scope, "feastrs-view", move || run.work(&news)));
        }
        drop(news);
        listener.listen(&hear, &stop, call);
        handles.into_iter().try_for_each(|handle| handle.and_then(finished))
    })?;
    listener.report()
}

/// What the threads share, each of which does one view after another.
struct Run<'a> {
    request: &'a MaterializeRequest,
    views: &'a [&'a FeatureView],
    // Who comes first does it.
    next: AtomicUsize,
    ledger: &'a dyn Ledger,
    store: &'a dyn OnlineStore,
    config: &'a RepoConfig,
    budget: Budget,
    call: Call<'a>,
}

impl Run<'_> {
    fn work(&self, news: &Sender<News>) -> Result<()> {
        while self.call.interrupt.check().is_ok() {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(view) = self.views.get(index) else { break };
            let teller = Teller::new(index, news);
            teller.ended(self.view(view, &teller));
        }
        Ok(())
    }

    fn view(&self, view: &FeatureView, news: &Teller<'_>) -> Result<ViewReport> {
        let window = self.request.window.of_view(view)?;
        let rows = self.request.every_row_until.map_or(window, |end| TimeWindow { start: 0, end });
        let (store, config, budget, call) = (self.store, self.config, &self.budget, &self.call);
        ViewJob { view, window, rows, store, config, budget, news, call }.run(self.ledger)
    }
}

/// The calling thread: passes news on and keeps the results.
struct Listener<'a> {
    views: &'a [&'a FeatureView],
    progress: &'a dyn Progress,
    // In the order of the views, whichever ends first.
    ended: Vec<Option<Result<ViewReport>>>,
    // Why the caller wants to stop.
    asked: Option<Error>,
}

impl<'a> Listener<'a> {
    fn new(views: &'a [&'a FeatureView], progress: &'a dyn Progress) -> Self {
        let ended = views.iter().map(|_| None).collect();
        Listener { views, progress, ended, asked: None }
    }

    /// Until all views have ended; tells them to stop when the caller asks.
    fn listen(&mut self, hear: &Receiver<News>, stop: &StopSwitch, call: &Call<'_>) {
        loop {
            match hear.recv_timeout(NEWS_WAIT) {
                Ok(news) => self.hear(news),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.asked.is_none() {
                self.asked = call.interrupt.check().err();
                if self.asked.is_some() {
                    stop.set();
                }
            }
        }
    }

    fn hear(&mut self, News { view, what }: News) {
        let name = &self.views[view].name;
        match what {
            What::Started(total_rows) => self.progress.view_started(name, total_rows),
            What::Waiting(searched) => self.progress.waiting(name, searched),
            What::Advanced(rows) => self.progress.advanced(name, rows),
            What::Ended(Ok(report)) => {
                self.progress.view_finished(&report);
                self.ended[view] = Some(Ok(report));
            }
            What::Ended(Err(error)) => {
                let error = match &self.asked {
                    // What the view knows is that it was to stop.
                    Some(asked) if error.kind() == ErrorKind::Interrupted => {
                        Error::new(asked.kind(), asked.to_string())
                    }
                    _ => error,
                };
                let error = error.context(format_args!("view '{name}'"));
                self.progress.view_failed(name, &error);
                self.ended[view] = Some(Err(error));
            }
        }
    }

    fn report(self) -> Result<MaterializeReport> {
        let mut report = MaterializeReport::default();
        let mut given_up = None;
        for (view, ended) in self.views.iter().zip(self.ended) {
            match ended {
                Some(Ok(done)) => report.views.push(done),
                Some(Err(error)) => {
                    given_up = given_up.or(Some(&view.name));
                    report.failures.push(ViewFailure { view: view.name.clone(), error });
                }
                None => {}
            }
        }
        match (self.asked, given_up) {
            (Some(asked), Some(view)) => Err(asked.context(format_args!("view '{view}'"))),
            (Some(asked), None) => Err(asked),
            (None, _) => Ok(report),
        }
    }
}
