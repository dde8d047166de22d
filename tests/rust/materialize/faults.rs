//! Stores that fail, callers that stop, and views that are not ours to materialize.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use feastrs::call::{Call, Interrupt};
use feastrs::materialize::{
    MaterializeRequest, NoProgress, Progress, ViewReport, Window, divide, materialize, select_views,
};
use feastrs::registry::{FeatureService, Projection, SourceKind, ViewKind, ViewState};
use feastrs::store::{
    DeletedView, OnlineStore, Scope, StoreReader, StoredGroup, StoredView, WriteBatch, WriteReport,
};
use feastrs::value::ValueType;
use feastrs::{Error, ErrorKind, Result};

use super::fixture::{MemoryLedger, Repo, field, first_failure};

/// Fails, or waits for ever but for interrupts.
enum BadStore {
    Refuses,
    Hangs,
}

impl OnlineStore for BadStore {
    fn reader(&self, _: &[StoredGroup]) -> Arc<dyn StoreReader> {
        unreachable!("a materialization does not read the store through this")
    }

    fn write(&self, _: &WriteBatch<'_>, call: &Call<'_>) -> Result<WriteReport> {
        match self {
            BadStore::Refuses => Err(Error::new(ErrorKind::StoreRefused, "out of memory")),
            BadStore::Hangs => loop {
                call.check()?;
                std::thread::sleep(Duration::from_millis(1));
            },
        }
    }

    fn delete(&self, _: &[DeletedView], _: Scope, _: &Call<'_>) -> Result<u64> {
        unreachable!("a materialization deletes nothing")
    }

    fn prepare(&self, _: &[StoredView], _: &Call<'_>) -> Result<()> {
        Ok(())
    }
}

fn run(repo: &Repo, store: &dyn OnlineStore, call: &Call<'_>) -> (Error, Vec<String>) {
    let request = MaterializeRequest {
        views: None,
        window: Window::Full { start: 0, end: 1_000_000 },
        every_row_until: None,
    };
    let ledger = MemoryLedger { catalog: repo.catalog(), events: Mutex::default() };
    let report = materialize(&request, &ledger, store, &repo.config, &NoProgress, call);
    let error = report.and_then(first_failure).unwrap_err();
    (error, ledger.events.into_inner().unwrap())
}

fn many_rows() -> Repo {
    let repo = Repo::new();
    repo.write_rows(&(0..50_000).map(|row| (row, row, row)).collect::<Vec<_>>());
    repo
}

#[test]
fn a_store_that_refuses_leaves_no_interval() {
    let mut repo = many_rows();
    repo.view.state = ViewState::AvailableOnline;

    let (error, events) = run(&repo, &BadStore::Refuses, &Call::unlimited());

    assert_eq!(error.kind(), ErrorKind::StoreRefused);
    assert_eq!(error.to_string(), "view 'stats': out of memory");
    assert_eq!(events, ["stats is Materializing", "stats is AvailableOnline"]);
}

#[test]
fn a_view_that_fails_does_not_keep_the_others_from_being_done() {
    let repo = Repo::new();
    repo.write_rows(&[(1, 5, 10)]);
    let mut catalog = (*repo.catalog()).clone();
    let mut failing = repo.view.clone();
    failing.name = "nowhere".to_owned();
    failing.batch_source.as_mut().unwrap().path = "nowhere.parquet".to_owned();
    let mut unstarted = repo.view.clone();
    unstarted.name = "unstarted".to_owned();
    catalog.views[0].ttl = Some(1_000);
    failing.ttl = Some(1_000);
    catalog.views.insert(0, failing);
    catalog.views.insert(1, unstarted);
    let ledger = MemoryLedger { catalog: Arc::new(catalog), events: Mutex::default() };
    let request = MaterializeRequest {
        views: None,
        window: Window::Incremental { end: 1_000, now: 1_000, overlap: 0 },
        every_row_until: None,
    };
    let tally = Tally::default();

    let report =
        materialize(&request, &ledger, &repo.store, &repo.config, &tally, &Call::unlimited())
            .unwrap();

    assert_eq!(report.views.len(), 1);
    assert_eq!((report.views[0].view.as_str(), report.views[0].entities_written), ("stats", 1));
    let failures: Vec<(&str, ErrorKind)> = report
        .failures
        .iter()
        .map(|failure| (failure.view.as_str(), failure.error.kind()))
        .collect();
    assert_eq!(
        failures,
        [("nowhere", ErrorKind::SourceNotFound), ("unstarted", ErrorKind::InvalidArgument)]
    );
    assert_eq!(*ledger.events.lock().unwrap(), ["stats is Materializing", "stats from 0 to 1000"]);
    // Views are under way at once: whichever ends first is told of first.
    let mut told = tally.0.lock().unwrap().2.clone();
    told.sort_unstable();
    assert!(told[0].starts_with("nowhere: view 'nowhere': source path"), "{told:?}");
    assert_eq!(told[1], "stats");
    assert!(told[2].starts_with("unstarted: view 'unstarted': was never"), "{told:?}");
}

struct StopsSoon(AtomicU32);

impl Interrupt for StopsSoon {
    fn check(&self) -> Result<()> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0..3 => Ok(()),
            _ => Err(Error::new(ErrorKind::Interrupted, "Ctrl-C")),
        }
    }
}

#[test]
fn an_interrupt_stops_reader_and_writers() {
    let repo = many_rows();
    let interrupt = StopsSoon(AtomicU32::new(0));
    let began = Instant::now();

    let (error, events) =
        run(&repo, &BadStore::Hangs, &Call { deadline: None, interrupt: &interrupt });

    assert_eq!(error.to_string(), "view 'stats': Ctrl-C");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(events, ["stats is Materializing", "stats is Generated"]);
}

#[derive(Default)]
struct Tally(Mutex<(u64, u64, Vec<String>)>);

impl Progress for Tally {
    fn view_started(&self, _: &str, total_rows: u64) {
        self.0.lock().unwrap().0 = total_rows;
    }
    fn advanced(&self, _: &str, rows: u64) {
        self.0.lock().unwrap().1 += rows;
    }
    fn view_finished(&self, report: &ViewReport) {
        self.0.lock().unwrap().2.push(report.view.clone());
    }
    fn view_failed(&self, view: &str, error: &Error) {
        self.0.lock().unwrap().2.push(format!("{view}: {error}"));
    }
}

#[test]
fn progress_ends_at_the_total() {
    let repo = many_rows();
    let tally = Tally::default();

    repo.run_with(0, 40_000, &tally, &Call::unlimited()).unwrap();

    assert_eq!(*tally.0.lock().unwrap(), (50_000, 50_000, vec!["stats".to_owned()]));
}

/// What makes a view or its repository one that only Feast can materialize.
type Change = fn(&mut Repo);

#[test]
fn views_beyond_the_native_path_are_refused_with_reasons() {
    let cases: [(&str, Change); 6] = [
        ("has a transformation", |repo| repo.view.beyond_native = vec!["has a transformation"]),
        ("is also written to the offline store", |repo| repo.view.offline = true),
        ("has a file source that is not Parquet", |repo| {
            repo.source().kind = SourceKind::OtherFile
        }),
        ("has a source on 'hdfs'", |repo| repo.source().path = "hdfs://b/k".to_owned()),
        ("the compute engine 'spark.engine'", |repo| {
            repo.config.batch_engine_type = "spark.engine".to_owned();
        }),
        ("is an on-demand view", |repo| {
            repo.view.kind = ViewKind::OnDemand;
            repo.view.write_to_online_store = true;
        }),
    ];
    for (reason, change) in cases {
        let mut repo = many_rows();
        change(&mut repo);
        let (error, events) = run(&repo, &BadStore::Refuses, &Call::unlimited());
        assert_eq!(error.kind(), ErrorKind::NeedsFeast);
        assert!(error.to_string().contains(reason), "{error}");
        assert!(events.is_empty());
    }
}

#[test]
fn views_are_divided_between_the_core_and_feast() {
    let mut repo = Repo::new();
    let (ours, obstacles) = divide(&repo.catalog(), &repo.config, None).unwrap();
    assert_eq!((ours, obstacles.len()), (vec!["stats".to_owned()], 0));

    for path in ["s3://b/k", "gs://b/k", "https://h/k"] {
        repo.source().path = path.to_owned();
        assert_eq!(divide(&repo.catalog(), &repo.config, None).unwrap().0, ["stats"]);
    }
    repo.source().path = "hdfs://b/k".to_owned();
    let (ours, obstacles) = divide(&repo.catalog(), &repo.config, None).unwrap();
    assert!(ours.is_empty());
    assert!(obstacles["stats"].starts_with("has a source on 'hdfs', which is neither"));
}

#[test]
fn without_event_timestamps_every_row_until_now_is_taken() {
    let repo = Repo::new();
    repo.write_rows(&[(1, 0, 10), (2, 50, 20), (3, 60, 30)]);
    let request = MaterializeRequest {
        views: Some(vec!["stats".to_owned()]),
        window: Window::Full { start: 49, end: 49 },
        every_row_until: Some(50),
    };
    let ledger = MemoryLedger { catalog: repo.catalog(), events: Mutex::default() };
    let call = Call::unlimited();

    materialize(&request, &ledger, &repo.store, &repo.config, &NoProgress, &call).unwrap();

    assert_eq!(repo.trips(0..9).keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(ledger.events.lock().unwrap()[1], "stats from 49 to 49");
}

#[test]
fn a_precomputed_service_needs_feast() {
    let repo = Repo::new();
    let mut catalog = (*repo.catalog()).clone();
    catalog.services.push(FeatureService {
        name: "scoring".to_owned(),
        projections: vec![Projection { view: "stats".to_owned(), ..Projection::default() }],
        precompute_online: true,
        logging_config: None,
        description: String::new(),
        tags: Default::default(),
        owner: String::new(),
        created_timestamp: None,
        last_updated_timestamp: None,
    });

    let obstacle = feastrs::materialize::native_obstacle(&repo.view, &catalog);

    assert!(obstacle.unwrap().contains("'scoring', a service with `precompute_online`"));
}

#[test]
fn named_views_have_to_be_there_and_online() {
    let mut repo = Repo::new();
    let chosen = |repo: &Repo, name: &str| {
        let names = [name.to_owned()];
        select_views(&repo.catalog(), Some(&names)).map(|views| views.len())
    };
    assert_eq!(chosen(&repo, "stats").unwrap(), 1);
    assert_eq!(chosen(&repo, "stat").unwrap_err().kind(), ErrorKind::FeatureViewNotFound);
    repo.view.online = false;
    assert_eq!(chosen(&repo, "stats").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(select_views(&repo.catalog(), None).unwrap().len(), 0);
    repo.view.online = true;
    repo.view.enabled = false;
    assert!(chosen(&repo, "stats").unwrap_err().to_string().contains("is disabled"));
}

#[test]
fn features_whose_hashes_collide_are_refused_by_name() {
    let mut seen: HashMap<[u8; 4], String> = HashMap::new();
    let (one, other) = (0..)
        .find_map(|number| {
            let name = format!("f{number}");
            let field = feastrs::hash::field_name("stats", &name);
            seen.insert(field, name.clone()).map(|known| (known, name))
        })
        .unwrap();
    let mut repo = many_rows();
    repo.view.features = vec![field(&one, ValueType::Int64), field(&other, ValueType::Int64)];

    let error = repo.run(0, 10).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let expected = format!("features '{one}' and '{other}' of view 'stats'");
    assert!(error.to_string().contains(&expected), "{error}");
}
