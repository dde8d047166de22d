//! What the rest of the server calls when something happens, in one line each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::families::Families;
use super::instrument::{Counter, Histogram};
use super::process::{self, Usage};
use super::series::{self, Counts, ReadSeries, ViewStatuses};
use super::text;
use crate::call::now_micros;
use crate::config::MetricsConfig;
use crate::online::{Answer, StoreTime};
use crate::process_local::ProcessLocal;
use crate::registry::{Catalog, ViewKind};
use crate::server::Reply;
use crate::store::ConnectionCount;

static OF_PROCESS: ProcessLocal<Metrics> = ProcessLocal::new();

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    families: Families,
    endpoints: [EndpointSeries; ENDPOINTS],
    online_requests: Arc<Counter>,
    entity_count: Arc<Histogram>,
    read_duration: Arc<Histogram>,
    store_duration: Arc<Histogram>,
    decode_duration: Arc<Histogram>,
    shed: Arc<Counter>,
    flags: Flags,
    // Whether reads of the library are counted, too, for whoever embeds it.
    counts_library: AtomicBool,
    bins: RwLock<Vec<u64>>,
    usage: Usage,
}

/// Which of Feast's categories are counted.
#[derive(Debug)]
struct Flags {
    resource: AtomicBool,
    request: AtomicBool,
    online_features: AtomicBool,
    push: AtomicBool,
    materialization: AtomicBool,
    freshness: AtomicBool,
    offline_features: AtomicBool,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/get-online-features`.
    GetOnlineFeatures,
    /// `/push`.
    Push,
    /// `/materialize`.
    Materialize,
    /// `/materialize-incremental`.
    MaterializeIncremental,
}

const ENDPOINTS: usize = 4;

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what was asked for.
    Success,
    /// With an error, the client's or ours.
    Error,
}

impl Outcome {
    /// How a request ended that has this answer. That somebody else is at it is no error.
    pub fn of(reply: &Reply) -> Self {
        match reply.status {
            ..400 | 409 => Outcome::Success,
            _ => Outcome::Error,
        }
    }
}

#[derive(Debug)]
struct EndpointSeries {
    success: Arc<Counter>,
    error: Arc<Counter>,
    // Of requests of which no more is known than where they went.
    latency: Arc<Histogram>,
}

impl Endpoint {
    const ALL: [Endpoint; ENDPOINTS] = [
        Endpoint::GetOnlineFeatures,
        Endpoint::Push,
        Endpoint::Materialize,
        Endpoint::MaterializeIncremental,
    ];

    fn path(self) -> &'static str {
        match self {
            Endpoint::GetOnlineFeatures => "/get-online-features",
            Endpoint::Push => "/push",
            Endpoint::Materialize => "/materialize",
            Endpoint::MaterializeIncremental => "/materialize-incremental",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let families = Families::default();
        let endpoints = Endpoint::ALL.map(|endpoint| EndpointSeries {
            success: families.requests.with(&[endpoint.path(), "success"]),
            error: families.requests.with(&[endpoint.path(), "error"]),
            latency: families.request_latency.with(&[endpoint.path(), "", ""]),
        });
        Metrics {
            endpoints,
            online_requests: families.online_requests.with(&[]),
            entity_count: families.entity_count.with(&[]),
            read_duration: families.read_duration.with(&[]),
            store_duration: families.store_duration.with(&[]),
            decode_duration: families.decode_duration.with(&[]),
            shed: families.shed.with(&[]),
            flags: Flags::default(),
            counts_library: AtomicBool::new(false),
            bins: RwLock::new(MetricsConfig::default().feature_count_bins),
            usage: Usage::default(),
            families,
        }
    }
}

impl Default for Flags {
    fn default() -> Self {
        let on = || AtomicBool::new(true);
        Flags {
            resource: on(),
            request: on(),
            online_features: on(),
            push: on(),
            materialization: on(),
            freshness: on(),
            offline_features: on(),
        }
    }
}

impl Metrics {
    /// Those of this process. A forked child begins anew.
    pub fn of_process() -> &'static Metrics {
        OF_PROCESS.get()
    }

    /// Counts reads of the library from now on, not only those of a server.
    pub fn count_library(&self) {
        self.counts_library.store(true, Ordering::Relaxed);
    }

    /// Whether reads of the library are counted.
    pub fn counts_library(&self) -> bool {
        self.counts_library.load(Ordering::Relaxed)
    }

    /// Counts what `config` says from now on.
    pub fn configure(&self, config: &MetricsConfig) {
        let set = |flag: &AtomicBool, value| flag.store(value, Ordering::Relaxed);
        set(&self.flags.resource, config.resource);
        set(&self.flags.request, config.request);
        set(&self.flags.online_features, config.online_features);
        set(&self.flags.push, config.push);
        set(&self.flags.materialization, config.materialization);
        set(&self.flags.freshness, config.freshness);
        set(&self.flags.offline_features, config.offline_features);
        let mut bins = self.bins.write().unwrap_or_else(PoisonError::into_inner);
        bins.clone_from(&config.feature_count_bins);
    }

    /// The instruments of reads that ask for so much, to be kept with their plan. `read_views` are the names of the views that are read from the store, as
    /// [`ReadPlan::read_views`](crate::online::ReadPlan::read_views) has them.
    pub fn read_series<'a>(
        &self,
        counts: Counts,
        read_views: impl Iterator<Item = &'a str>,
    ) -> ReadSeries {
        let latency = Some(self.read_latency(counts));
        ReadSeries { latency, ..self.view_series(read_views) }
    }

    /// The same of reads that are no requests to a server.
    pub fn view_series<'a>(&self, read_views: impl Iterator<Item = &'a str>) -> ReadSeries {
        let statuses = |view: &str| ViewStatuses {
            present: self.families.statuses.with(&[view, "present"]),
            not_found: self.families.statuses.with(&[view, "not_found"]),
        };
        ReadSeries { latency: None, views: read_views.map(statuses).collect() }
    }

    fn read_latency(&self, counts: Counts) -> Arc<Histogram> {
        let bins = self.bins.read().unwrap_or_else(PoisonError::into_inner);
        let features = series::feature_count(counts.features, &bins);
        let endpoint = Endpoint::GetOnlineFeatures.path();
        self.families.request_latency.with(&[endpoint, &features, &counts.views.to_string()])
    }

    /// Begins to time a request. Dropped without [`RequestClock::finish`], it is counted as one
    /// that failed.
    pub fn request(&self, endpoint: Endpoint) -> RequestClock<'_> {
        let is_on = self.flags.request.load(Ordering::Relaxed);
        RequestClock {
            metrics: self,
            endpoint,
            begun: is_on.then(Instant::now),
            latency: None,
            outcome: Outcome::Error,
        }
    }

    /// Counts a read that is about to be done, of so many entity rows.
    pub fn read_begins(&self, entity_rows: usize) {
        if self.flags.online_features.load(Ordering::Relaxed) {
            self.online_requests.add(1);
            self.entity_count.observe(entity_rows as u64);
        }
    }

    /// Counts a read that gave `answer`: its time with the store, and what became of values.
    pub fn read_ends(&self, series: &ReadSeries, answer: &Answer) {
        if !self.flags.online_features.load(Ordering::Relaxed) {
            return;
        }
        if let Some(StoreTime { begun, ended }) = answer.store_time() {
            self.read_duration.observe_duration(ended - begun);
            self.store_duration.observe_duration(ended - begun);
        }
        for (counters, tally) in series.views.iter().zip(answer.tallies()) {
            counters.present.add(tally.present as u64);
            if tally.not_found > 0 {
                counters.not_found.add(tally.not_found as u64);
            }
        }
    }

    /// Counts the time from the last row of `answer` until now, when it is written out.
    pub fn written_out(&self, answer: &Answer) {
        if let Some(StoreTime { ended, .. }) = answer.store_time() {
            self.decode_duration.observe_duration(ended.elapsed());
        }
    }

    /// Counts a push that succeeded; `mode` says where to: `online`, `offline` or both.
    pub fn push(&self, source: &str, mode: &str) {
        if self.flags.push.load(Ordering::Relaxed) {
            self.families.pushes.with(&[source, mode]).add(1);
        }
    }

    /// Counts the materialization of a view.
    pub fn materialization(&self, view: &str, outcome: Outcome, duration: Duration) {
        if self.flags.materialization.load(Ordering::Relaxed) {
            let status = match outcome {
                Outcome::Success => "success",
                Outcome::Error => "failure",
            };
            self.families.materializations.with(&[view, status]).add(1);
            self.families.materialization_duration.with(&[view]).observe_duration(duration);
        }
    }

    /// Counts an on-demand transformation of a read.
    pub fn transformation(&self, view: &str, mode: &str, duration: Duration) {
        if self.flags.online_features.load(Ordering::Relaxed) {
            self.families.transformation_duration.with(&[view, mode]).observe_duration(duration);
        }
    }

    /// Counts an on-demand transformation of rows that are written.
    pub fn write_transformation(&self, view: &str, mode: &str, duration: Duration) {
        if self.flags.online_features.load(Ordering::Relaxed) {
            let family = &self.families.write_transformation_duration;
            family.with(&[view, mode]).observe_duration(duration);
        }
    }

    /// Counts a retrieval from the offline store, of so many rows.
    pub fn retrieval(&self, outcome: Outcome, duration: Duration, rows: u64) {
        // What Feast calls each of them, whatever they were retrieved as.
        const METHOD: &str = "to_arrow";
        if self.flags.offline_features.load(Ordering::Relaxed) {
            let status = match outcome {
                Outcome::Success => "success",
                Outcome::Error => "error",
            };
            self.families.retrievals.with(&[METHOD, status]).add(1);
            self.families.retrieval_latency.with(&[METHOD]).observe_duration(duration);
            self.families.retrieved_rows.with(&[METHOD]).observe(rows);
        }
    }

    /// Counts a request that was refused because there were too many.
    pub fn shed(&self) {
        self.shed.add(1);
    }

    /// Counts a request that was refused for who made it; `reason` is one of a few words.
    pub fn refused(&self, reason: &'static str) {
        self.families.refused.with(&[reason]).add(1);
    }

    /// Counts a refresh of the registry.
    pub fn registry_refreshed(&self, outcome: Outcome) {
        let status = match outcome {
            Outcome::Success => "success",
            Outcome::Error => "failure",
        };
        self.families.registry_refreshes.with(&[status]).add(1);
    }

    /// Notes how old the registry's snapshot is, and how fresh the views in it are.
    pub fn note_registry(&self, catalog: &Catalog, age: Duration) {
        self.families.registry_age.with(&[]).set(age.as_secs_f64());
        if !self.flags.freshness.load(Ordering::Relaxed) {
            return;
        }
        let now = now_micros();
        let is_materialized = |kind| matches!(kind, ViewKind::Batch | ViewKind::Stream);
        for view in catalog.views.iter().filter(|view| is_materialized(view.kind)) {
            if let Some(newest) = view.materialization_intervals.iter().map(|(_, end)| end).max() {
                let seconds = (now - newest) as f64 / 1e6;
                self.families.freshness.with(&[&view.name, &catalog.project]).set(seconds);
            }
        }
    }

    /// Notes how many requests are being worked on.
    pub fn note_in_flight(&self, requests: usize) {
        self.families.in_flight.with(&[]).set(requests as f64);
    }

    /// Notes how many connections to the online store there are.
    pub fn note_connections(&self, count: ConnectionCount) {
        self.families.connections.with(&["in_use"]).set(count.in_use as f64);
        self.families.connections.with(&["idle"]).set(count.idle as f64);
    }

    /// All of it, in Prometheus' text format.
    pub fn text(&self) -> String {
        self.note_process();
        text::write(&self.families)
    }

    fn note_process(&self) {
        if !self.flags.resource.load(Ordering::Relaxed) {
            return;
        }
        let pid = std::process::id().to_string();
        if let Some(percent) = self.usage.cpu_percent() {
            self.families.cpu_usage.with(&[&pid]).set(percent);
        }
        if let Some(percent) = process::memory_percent() {
            self.families.memory_usage.with(&[&pid]).set(percent);
        }
    }
}

/// Times one request, and counts how it ended.
#[derive(Debug)]
pub struct RequestClock<'a> {
    metrics: &'a Metrics,
    endpoint: Endpoint,
    // `None`: requests are not counted.
    begun: Option<Instant>,
    // What is known of what is asked; `None`: nothing yet.
    latency: Option<Arc<Histogram>>,
    outcome: Outcome,
}

impl RequestClock<'_> {
    /// The request is a read of that plan.
    pub fn reads(&mut self, series: &ReadSeries) {
        if self.begun.is_some() {
            self.latency.clone_from(&series.latency);
        }
    }

    /// The request asks for so much, and there is no plan for it.
    pub fn asks(&mut self, counts: Counts) {
        if self.begun.is_some() {
            self.latency = Some(self.metrics.read_latency(counts));
        }
    }

    /// The request does not count: it was refused before it was looked at.
    pub fn forget(mut self) {
        self.begun = None;
    }

    /// The request is over.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for RequestClock<'_> {
    fn drop(&mut self) {
        let Some(begun) = self.begun else { return };
        let [read, push, materialize, incremental] = &self.metrics.endpoints;
        let series = match self.endpoint {
            Endpoint::GetOnlineFeatures => read,
            Endpoint::Push => push,
            Endpoint::Materialize => materialize,
            Endpoint::MaterializeIncremental => incremental,
        };
        match self.outcome {
            Outcome::Success => series.success.add(1),
            Outcome::Error => series.error.add(1),
        }
        self.latency.as_ref().unwrap_or(&series.latency).observe_duration(begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(metrics: &Metrics, of: &str) -> Vec<String> {
        let text = metrics.text();
        text.lines().filter(|line| line.starts_with(of)).map(str::to_owned).collect()
    }

    #[test]
    fn a_read_is_counted_as_feast_counts_it() {
        let metrics = Metrics::default();
        let series = metrics.read_series(Counts { features: 11, views: 2 }, ["v", "w"].into_iter());

        let mut clock = metrics.request(Endpoint::GetOnlineFeatures);
        clock.reads(&series);
        metrics.read_begins(3);
        clock.finish(Outcome::Success);

        let requests = lines(&metrics, "feast_feature_server_request_total");
        let expected = "{endpoint=\"/get-online-features\",status=\"success\"} 1.0";
        assert_eq!(requests, [format!("feast_feature_server_request_total{expected}")]);
        let latency = lines(&metrics, "feast_feature_server_request_latency_seconds_count");
        let labels =
            "{endpoint=\"/get-online-features\",feature_count=\"11-50\",feature_view_count=\"2\"}";
        assert_eq!(
            latency,
            [format!("feast_feature_server_request_latency_seconds_count{labels} 1.0")]
        );
        let entities = lines(&metrics, "feast_online_features_entity_count_sum");
        assert_eq!(entities, ["feast_online_features_entity_count_sum 3.0"]);
    }

    #[test]
    fn a_request_that_nobody_ends_has_failed() {
        let metrics = Metrics::default();
        drop(metrics.request(Endpoint::Push));
        let mut clock = metrics.request(Endpoint::GetOnlineFeatures);
        clock.asks(Counts { features: 1, views: 0 });
        drop(clock);

        let requests = lines(&metrics, "feast_feature_server_request_total");
        assert_eq!(requests.len(), 2);
        assert!(requests.iter().all(|line| line.contains("status=\"error\"")), "{requests:?}");
        let latency = lines(&metrics, "feast_feature_server_request_latency_seconds_count");
        assert!(latency.iter().any(|line| line.contains("feature_count=\"1-10\"")), "{latency:?}");
    }

    #[test]
    fn what_is_switched_off_is_not_counted() {
        let metrics = Metrics::default();
        metrics.configure(&MetricsConfig {
            resource: false,
            request: false,
            online_features: false,
            push: false,
            materialization: false,
            freshness: false,
            offline_features: false,
            ..MetricsConfig::default()
        });

        metrics.request(Endpoint::Materialize).finish(Outcome::Success);
        metrics.read_begins(1);
        metrics.push("s", "online");
        metrics.retrieval(Outcome::Success, Duration::ZERO, 1);
        metrics.materialization("v", Outcome::Success, Duration::ZERO);
        metrics.note_registry(&Catalog::default(), Duration::from_secs(1));

        let names: Vec<_> = metrics.text().lines().map(str::to_owned).collect();
        assert!(names.iter().all(|line| line.contains("feastrs_registry_age")), "{names:?}");
    }
}
