//! The example repository, from the registry that stock Feast wrote to a SQLite store.

use std::fs;
use std::path::Path;

use feastrs::call::Call;
use feastrs::config::RepoConfig;
use feastrs::materialize::{
    MaterializeReport, MaterializeRequest, NoProgress, Window, materialize,
};
use feastrs::registry::ViewState;
use feastrs::registry::cache::RegistryCache;

fn run(config: &RepoConfig, registry: &RegistryCache) -> MaterializeReport {
    let request = MaterializeRequest {
        views: None,
        window: Window::Full { start: 0, end: 1_800_000_000_000_000 },
        every_row_until: None,
    };
    let store = feastrs::store::open(config).unwrap();
    let call = Call::unlimited();
    materialize(&request, registry, store.as_ref(), config, &NoProgress, &call).unwrap()
}

fn stored_rows(repo: &Path, view: &str) -> u64 {
    let database = rusqlite::Connection::open(repo.join("data/online.db")).unwrap();
    let sql = format!("SELECT count(DISTINCT entity_key) FROM driver_stats_{view}");
    database.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

#[test]
fn the_example_is_materialized_and_recorded_and_a_second_run_changes_nothing() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/driver_stats");
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path();
    fs::create_dir(repo.join("data")).unwrap();
    for name in ["registry.db", "driver_stats.parquet", "driver_profile.parquet"] {
        fs::copy(example.join("data").join(name), repo.join("data").join(name)).unwrap();
    }
    fs::copy(example.join("feature_store.yaml"), repo.join("feature_store.yaml")).unwrap();
    let config = RepoConfig::load(repo, &repo.join("feature_store.yaml")).unwrap();
    let registry = RegistryCache::open(&config, Call::unlimited()).unwrap();

    let first = run(&config, &registry);
    let again = run(&config, &registry);

    assert!(!first.views.is_empty());
    for (report, repeated) in first.views.iter().zip(&again.views) {
        assert!(report.entities_written > 1_000, "{report:?}");
        assert_eq!(stored_rows(repo, &report.view), report.entities_written);
        assert_eq!(repeated.entities_written + repeated.rows_older, report.entities_written);
    }
    let catalog = registry.refresh(Call::unlimited()).unwrap();
    for report in &first.views {
        let view = catalog.views.iter().find(|view| view.name == report.view).unwrap();
        assert_eq!(view.materialization_intervals, [(0, 1_800_000_000_000_000); 2]);
        assert_eq!(view.state, ViewState::AvailableOnline);
    }
}
