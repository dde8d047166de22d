//! Requests for features without a transport: plans that are found again, what a host is asked,
//! and errors with their status codes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use feastrs::config::RepoConfig;
use feastrs::registry::ViewState;
use feastrs::registry::cache::RegistryCache;
use feastrs::registry::splice::{Change, ChangeKind};
use feastrs::server::auth::Principal;
use feastrs::server::serving::Way;
use feastrs::server::{
    Host, HostedMaterialization, HostedWrite, Limits, NoHost, Reply, Serving, ask,
    get_online_features,
};
use feastrs::{Error, ErrorKind, Result, runtime, store};

/// A host that counts what it is asked, and can do nothing.
#[derive(Default)]
struct Idle(AtomicUsize);

impl Host for Idle {
    fn read(&self, _body: Bytes) -> Result<Vec<u8>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(ErrorKind::Unsupported, "there is no Python here"))
    }

    fn write(&self, write: &HostedWrite) -> Result<()> {
        NoHost.write(write)
    }

    fn materialize(&self, order: &HostedMaterialization) -> Result<()> {
        NoHost.materialize(order)
    }
}

fn serving() -> (Serving, Arc<RegistryCache>, Arc<Idle>) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let yaml = "project: golden\nregistry: registry.db\n\
                online_store: {type: sqlite, path: /nonexistent/online.db}";
    let config = RepoConfig::from_yaml_text(yaml, &golden).unwrap();
    let bytes = std::fs::read(golden.join("registry.db")).unwrap();
    let registry = Arc::new(RegistryCache::given(&config, &bytes).unwrap());
    let host = Arc::new(Idle::default());
    let online = store::open(&config).unwrap();
    let limits = Limits { rows: 3, features: 2, ..Limits::default() };
    let serving = Serving::new(&config, registry.clone(), Some(online), host.clone());
    (serving.with_limits(&limits), registry, host)
}

fn answer(serving: &Serving, body: &str) -> Reply {
    let body = Bytes::copy_from_slice(body.as_bytes());
    runtime::handle().unwrap().block_on(get_online_features(
        serving,
        &Principal::Anyone,
        &body,
        true,
        None,
    ))
}

#[test]
fn a_shape_of_request_is_planned_once_for_a_snapshot() {
    let (serving, registry, _) = serving();
    let prepare = |full: bool| {
        let body = format!(
            r#"{{"entities": {{"driver_id": [1]}}, "features": ["driver_stats:trips"],
                "full_feature_names": {full}}}"#
        );
        serving.prepare(&ask::parse(&body).unwrap()).unwrap()
    };
    let first = prepare(false);

    assert!(Arc::ptr_eq(&first, &prepare(false)));
    assert!(!Arc::ptr_eq(&first, &prepare(true)));
    assert_eq!((first.features, &first.views[..]), (1, &["driver_stats".to_owned()][..]));
    assert!(matches!(first.way, Way::Native(_)));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/registry.db");
    registry.give(&std::fs::read(golden).unwrap()).unwrap();
    assert!(!Arc::ptr_eq(&first, &prepare(false)));
}

#[test]
fn mistakes_have_their_status_and_are_not_the_stores() {
    let (serving, _, host) = serving();
    let expected = [
        (r#"["nope:x"]"#, 404, "FeatureViewNotFoundException"),
        (r#"["driver_stats:nope"]"#, 404, "nope"),
        (r#"["driver_stats"]"#, 422, "driver_stats"),
        (r#"["driver_stats@v1:trips"]"#, 422, "versioning"),
        (r#"["driver_stats:trips", "pushed:trips"]"#, 400, "FeatureNameCollisionError"),
        ("[]", 422, "no features"),
        ("[1]", 422, "string_type"),
        (r#"["pairs:rate"]"#, 422, "customer"),
        (r#"["cost:cost"]"#, 404, "RequestDataNotFoundInEntityRowsException"),
    ];
    for (features, status, part) in expected {
        let body = format!(r#"{{"entities": {{"driver_id": [1]}}, "features": {features}}}"#);
        let reply = answer(&serving, &body);
        let text = String::from_utf8(reply.body).unwrap();
        assert_eq!(reply.status, status, "{features}: {text}");
        assert!(text.contains(part), "{features}: {text}");
    }
    let service = answer(&serving, r#"{"entities": {}, "feature_service": "nope"}"#);
    assert_eq!(service.status, 404);
    assert_eq!(host.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_view_that_is_being_materialized_is_asked_for_again() {
    let (serving, registry, _) = serving();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/registry.db");
    let change = Change {
        project: "golden".to_owned(),
        view: "driver_stats".to_owned(),
        kind: ChangeKind::State(ViewState::Materializing),
        now: 0,
    };
    registry.give(&change.apply(&std::fs::read(golden).unwrap()).unwrap()).unwrap();
    for (features, status) in [("driver_stats:trips", 503), ("driver_stats", 422)] {
        let body = format!(r#"{{"entities": {{"driver_id": [1]}}, "features": ["{features}"]}}"#);
        let reply = answer(&serving, &body);
        assert_eq!(reply.status, status, "{features}");
        assert_eq!(reply.headers.is_empty(), status != 503);
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let (serving, _, _) = serving();
    for (rows, features) in [
        ("[1, 2, 3, 4]", r#"["driver_stats:trips"]"#),
        ("[1]", r#"["driver_stats:trips", "driver_stats:conv_rate", "pushed:trips"]"#),
    ] {
        let body = format!(r#"{{"entities": {{"driver_id": {rows}}}, "features": {features}}}"#);
        let reply = answer(&serving, &body);
        assert_eq!(reply.status, 422);
        assert!(String::from_utf8(reply.body).unwrap().contains("is the limit"), "{body}");
    }
}

#[test]
fn what_needs_python_is_asked_of_the_host() {
    let (serving, _, host) = serving();
    let body = r#"{"entities": {"driver_id": [1], "customer_id": ["a"], "km": [1.5]},
                   "features": ["cost:cost"]}"#;

    let reply = answer(&serving, body);

    assert_eq!((reply.status, host.0.load(Ordering::Relaxed)), (501, 1));
    assert_eq!(reply.body, br#""there is no Python here""#);
}
