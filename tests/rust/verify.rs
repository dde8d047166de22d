//! Verification where somebody else is at work: a finding is looked at again, and a source that is
//! replaced meanwhile is an error and no finding.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use feastrs::call::{Call, Interrupt};
use feastrs::materialize::NoProgress;
use feastrs::offline::TimeWindow;
use feastrs::store::{
    DeletedView, OnlineStore, RowSink, Scope, StoreReader, StoredGroup, StoredView, WriteBatch,
    WriteReport,
};
use feastrs::value::PackedBytes;
use feastrs::verify::{RowStatus, VerifyReport, VerifyRequest, verify};
use feastrs::{Error, ErrorKind, Result};

use crate::materialize::fixture::{Repo, int_value};

const DRIVERS: i64 = 100;

/// What is done before the read of that number, the first being 0.
type Before = dyn Fn(usize) + Send + Sync;

/// Every driver has a row of time 7, with the trips that it should have; but not in the first
/// read of each, if `is_late`.
struct Online {
    is_late: bool,
    trips: Mutex<i64>,
    before: Box<Before>,
}

impl Online {
    fn new(is_late: bool, before: impl Fn(usize) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Online { is_late, trips: Mutex::new(3), before: Box::new(before) })
    }
}

struct Rows {
    online: Arc<Online>,
    reads: AtomicUsize,
}

impl StoreReader for Rows {
    fn read(&self, keys: &[PackedBytes], sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()> {
        call.check()?;
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        (self.online.before)(number);
        let trips = int_value(*self.online.trips.lock().unwrap());
        let is_there = number > 0 || !self.online.is_late;
        keys[0].iter().try_for_each(|_| match is_there {
            true => sink.row(0, 0, Some(7), &[Some(&trips)]),
            false => sink.row(0, 0, None, &[None]),
        })
    }
}

struct Store(Arc<Online>);

impl OnlineStore for Store {
    fn reader(&self, _: &[StoredGroup]) -> Arc<dyn StoreReader> {
        Arc::new(Rows { online: self.0.clone(), reads: AtomicUsize::new(0) })
    }

    fn write(&self, _: &WriteBatch<'_>, _: &Call<'_>) -> Result<WriteReport> {
        unreachable!("a verification writes nothing")
    }

    fn delete(&self, _: &[DeletedView], _: Scope, _: &Call<'_>) -> Result<u64> {
        unreachable!("a verification deletes nothing")
    }

    fn prepare(&self, _: &[StoredView], _: &Call<'_>) -> Result<()> {
        unreachable!("a verification prepares nothing")
    }
}

/// Every driver has a row of time 5 and one of time 7, the latter with so many trips.
fn source(repo: &Repo, trips: i64) {
    let rows = (0..DRIVERS).flat_map(|driver| [(driver, 5, 1), (driver, 7, trips)]);
    repo.write_rows(&rows.collect::<Vec<_>>());
}

fn repo() -> Repo {
    let mut repo = Repo::new();
    repo.view.materialization_intervals = vec![(0, 10)];
    source(&repo, 3);
    repo
}

fn run(repo: &Repo, online: Arc<Online>, call: &Call<'_>) -> Result<VerifyReport> {
    let request = VerifyRequest {
        views: vec!["stats".to_owned()],
        window: TimeWindow { start: i64::MIN, end: i64::MAX },
        sample: None,
        seed: 0,
        examples: 3,
    };
    verify(&request, &repo.catalog(), &Store(online), &repo.config, &NoProgress, call)
}

#[test]
fn what_is_right_is_read_once() {
    let repo = repo();
    let online = Online::new(false, |number| assert_eq!(number, 0));

    let report = run(&repo, online, &Call::unlimited()).unwrap();

    let view = &report.views[0];
    assert_eq!(view.counts.of(RowStatus::Matching), DRIVERS as u64);
    assert_eq!((view.rows_read, view.entities), (2 * DRIVERS as u64, DRIVERS as u64));
}

#[test]
fn what_comes_while_it_is_looked_at_is_no_finding() {
    let report = run(&repo(), Online::new(true, |_| {}), &Call::unlimited()).unwrap();

    assert_eq!(report.views[0].counts.of(RowStatus::Matching), DRIVERS as u64);
}

#[test]
fn a_source_that_is_replaced_meanwhile_is_no_finding() {
    let repo = Arc::new(repo());
    let other = repo.clone();
    let online = Online::new(false, move |number| {
        if number == 0 {
            source(&other, 4);
        }
    });
    *online.trips.lock().unwrap() = 4;

    let report = run(&repo, online, &Call::unlimited()).unwrap();

    assert!(report.views.is_empty());
    assert_eq!(report.failures[0].error.kind(), ErrorKind::SourceChanged);
    assert!(report.failures[0].error.to_string().starts_with("view 'stats': "));
}

#[test]
fn findings_have_their_examples() {
    let online = Online::new(false, |_| {});
    *online.trips.lock().unwrap() = 4;

    let report = run(&repo(), online, &Call::unlimited()).unwrap();

    let view = &report.views[0];
    assert_eq!(view.counts.of(RowStatus::Different), DRIVERS as u64);
    assert_eq!(view.features[0].different, DRIVERS as u64);
    assert_eq!(view.examples.len(), 3);
    let difference = &view.examples[0].differences[0];
    assert_eq!(difference.source, int_value(3));
    assert_eq!(difference.online, Some(int_value(4)));
}

#[test]
fn the_caller_can_stop_it() {
    struct Stop(AtomicUsize);
    impl Interrupt for Stop {
        fn check(&self) -> Result<()> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0..3 => Ok(()),
                _ => Err(Error::new(ErrorKind::Interrupted, "stop")),
            }
        }
    }
    // Until somebody has asked to stop.
    let (asked, seen) = (Arc::new(Stop(AtomicUsize::new(0))), Mutex::new(0));
    let other = asked.clone();
    let online = Online::new(false, move |_| {
        while other.0.load(Ordering::Relaxed) <= 3 {
            std::thread::yield_now();
        }
        *seen.lock().unwrap() += 1;
    });
    let call = Call { deadline: None, interrupt: asked.as_ref() };

    let error = run(&repo(), online, &call).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.to_string().starts_with("view 'stats': "), "{error}");
}
