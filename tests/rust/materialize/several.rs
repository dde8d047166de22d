//! Several views at once: that they overlap, and that each is reported and recorded as if alone.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use feastrs::call::{Call, Interrupt};
use feastrs::materialize::{
    MaterializeReport, MaterializeRequest, NoProgress, Window, materialize,
};
use feastrs::registry::Catalog;
use feastrs::store::{
    DeletedView, OnlineStore, Scope, StoreReader, StoredGroup, StoredView, WriteBatch, WriteReport,
};
use feastrs::{Error, ErrorKind, Result};

use super::fixture::{MemoryLedger, Repo};

/// Holds writes until those of `wanted` views are under way.
struct MeetingPoint {
    wanted: usize,
    arrived: Mutex<HashSet<String>>,
    changed: Condvar,
    most: Mutex<usize>,
}

impl MeetingPoint {
    fn of(wanted: usize) -> Self {
        let (arrived, changed, most) = Default::default();
        MeetingPoint { wanted, arrived, changed, most }
    }
}

impl OnlineStore for MeetingPoint {
    fn reader(&self, _: &[StoredGroup]) -> Arc<dyn StoreReader> {
        unreachable!("a materialization does not read the store through this")
    }

    fn write(&self, batch: &WriteBatch<'_>, call: &Call<'_>) -> Result<WriteReport> {
        let mut arrived = self.arrived.lock().unwrap();
        arrived.insert(batch.view.name.clone());
        self.changed.notify_all();
        while arrived.len() < self.wanted {
            call.check()?;
            arrived = self.changed.wait_timeout(arrived, Duration::from_millis(5)).unwrap().0;
        }
        let mut most = self.most.lock().unwrap();
        *most = arrived.len().max(*most);
        Ok(WriteReport { written: batch.keys.len() as u64, older: 0 })
    }

    fn delete(&self, _: &[DeletedView], _: Scope, _: &Call<'_>) -> Result<u64> {
        unreachable!("a materialization deletes nothing")
    }

    fn prepare(&self, _: &[StoredView], _: &Call<'_>) -> Result<()> {
        Ok(())
    }
}

/// The fixture's view under so many names; the source of each has a row more than the one before.
fn views(repo: &Repo, count: usize) -> Arc<Catalog> {
    let mut catalog = (*repo.catalog()).clone();
    let view = catalog.views.remove(0);
    for index in 0..count {
        let file = format!("{index}.parquet");
        let rows: Vec<_> = (0..=index as i64).map(|row| (row, 5, row)).collect();
        repo.write_rows_to(&file, &rows);
        let mut view = view.clone();
        view.name = format!("view{index}");
        view.batch_source.as_mut().unwrap().path = file;
        catalog.views.push(view);
    }
    Arc::new(catalog)
}

fn run(
    repo: &Repo,
    catalog: Arc<Catalog>,
    store: &dyn OnlineStore,
    call: &Call<'_>,
) -> (Result<MaterializeReport>, Vec<String>) {
    let request = MaterializeRequest {
        views: None,
        window: Window::Full { start: 0, end: 10 },
        every_row_until: None,
    };
    let ledger = MemoryLedger { catalog, events: Mutex::default() };
    let report = materialize(&request, &ledger, store, &repo.config, &NoProgress, call);
    (report, ledger.events.into_inner().unwrap())
}

#[test]
fn views_are_under_way_at_once_and_reported_in_their_order() {
    let repo = Repo::new();
    let store = MeetingPoint::of(4);

    let (report, mut events) = run(&repo, views(&repo, 8), &store, &Call::unlimited());

    let report = report.unwrap();
    let found: Vec<_> = report.views.iter().map(|one| (one.view.clone(), one.rows_read)).collect();
    let expected: Vec<_> = (0..8).map(|index| (format!("view{index}"), index + 1)).collect();
    assert_eq!(found, expected);
    events.sort_unstable();
    let recorded = (0..8).flat_map(|index| {
        [format!("view{index} from 0 to 10"), format!("view{index} is Materializing")]
    });
    assert_eq!(events, recorded.collect::<Vec<_>>());
}

#[test]
fn with_little_memory_they_go_one_by_one() {
    let mut repo = Repo::new();
    repo.config.materialization.max_memory_mb = 16;
    let store = MeetingPoint::of(1);

    let (report, events) = run(&repo, views(&repo, 3), &store, &Call::unlimited());

    assert_eq!(report.unwrap().views.len(), 3);
    let expected = (0..3).flat_map(|index| {
        [format!("view{index} is Materializing"), format!("view{index} from 0 to 10")]
    });
    assert_eq!(events, expected.collect::<Vec<_>>());
}

/// Asks to stop when all of `store` wait for one another.
struct WhenAllWait<'a>(&'a MeetingPoint, usize);

impl Interrupt for WhenAllWait<'_> {
    fn check(&self) -> Result<()> {
        match self.0.arrived.lock().unwrap().len() < self.1 {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Interrupted, "Ctrl-C")),
        }
    }
}

#[test]
fn an_interrupt_stops_all_and_nothing_is_recorded() {
    let repo = Repo::new();
    let store = MeetingPoint::of(5);
    let interrupt = WhenAllWait(&store, 4);

    let call = Call { deadline: None, interrupt: &interrupt };
    let (report, mut events) = run(&repo, views(&repo, 8), &store, &call);

    let error = report.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(error.to_string(), "view 'view0': Ctrl-C");
    assert_eq!(*store.most.lock().unwrap(), 0);
    events.sort_unstable();
    let put_back = (0..4).flat_map(|index| {
        [format!("view{index} is Generated"), format!("view{index} is Materializing")]
    });
    assert_eq!(events, put_back.collect::<Vec<_>>());
}
