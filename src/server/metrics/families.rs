//! All families: Feast's, word for word, and ours.

use super::family::{Description, Family};
use super::instrument::{Counter, Gauge, Histogram, Scale};

const NANOSECONDS: f64 = 1e9;

static REQUEST: Scale = Scale {
    units: NANOSECONDS,
    bounds: &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
};
static READ: Scale = Scale {
    units: NANOSECONDS,
    bounds: &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
};
static TRANSFORMATION: Scale = Scale {
    units: NANOSECONDS,
    bounds: &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0],
};
static MATERIALIZATION: Scale = Scale {
    units: NANOSECONDS,
    bounds: &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0],
};
static ENTITIES: Scale =
    Scale { units: 1.0, bounds: &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0] };
static RETRIEVAL: Scale = Scale {
    units: NANOSECONDS,
    bounds: &[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0],
};
static RETRIEVED: Scale = Scale { units: 1.0, bounds: &[100.0, 1e3, 1e4, 1e5, 5e5, 1e6, 5e6] };
/// What is fast: finer than Feast's buckets.
static FINE: Scale = Scale {
    units: NANOSECONDS,
    bounds: &[
        0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01,
        0.025, 0.1, 1.0,
    ],
};

/// Every family there is.
#[derive(Debug)]
pub struct Families {
    pub cpu_usage: Family<Gauge>,
    pub memory_usage: Family<Gauge>,
    pub requests: Family<Counter>,
    pub request_latency: Family<Histogram>,
    pub online_requests: Family<Counter>,
    pub entity_count: Family<Histogram>,
    pub statuses: Family<Counter>,
    pub pushes: Family<Counter>,
    pub materializations: Family<Counter>,
    pub materialization_duration: Family<Histogram>,
    pub read_duration: Family<Histogram>,
    pub transformation_duration: Family<Histogram>,
    pub write_transformation_duration: Family<Histogram>,
    pub freshness: Family<Gauge>,
    pub retrievals: Family<Counter>,
    pub retrieval_latency: Family<Histogram>,
    pub retrieved_rows: Family<Histogram>,
    pub store_duration: Family<Histogram>,
    pub decode_duration: Family<Histogram>,
    pub connections: Family<Gauge>,
    pub registry_age: Family<Gauge>,
    pub registry_refreshes: Family<Counter>,
    pub in_flight: Family<Gauge>,
    pub shed: Family<Counter>,
    pub refused: Family<Counter>,
}

/// A reference to a family of any kind.
pub enum AnyFamily<'a> {
    Counters(&'a Family<Counter>),
    Gauges(&'a Family<Gauge>),
    Histograms(&'a Family<Histogram>),
}

fn about(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Description {
    Description { name, help, labels }
}

impl Default for Families {
    // Long, for it is a list.
    fn default() -> Self {
        Families {
            cpu_usage: Family::gauges(about(
                "feast_feature_server_cpu_usage",
                "CPU usage percentage of the Feast feature server process",
                &["pid"],
            )),
            memory_usage: Family::gauges(about(
                "feast_feature_server_memory_usage",
                "Memory usage percentage of the Feast feature server process",
                &["pid"],
            )),
            requests: Family::counters(about(
                "feast_feature_server_request_total",
                "Total number of requests to the Feast feature server",
                &["endpoint", "status"],
            )),
            request_latency: Family::histograms(
                about(
                    "feast_feature_server_request_latency_seconds",
                    "Latency of requests to the Feast feature server in seconds",
                    &["endpoint", "feature_count", "feature_view_count"],
                ),
                &REQUEST,
            ),
            online_requests: Family::counters(about(
                "feast_online_features_request_total",
                "Total online feature retrieval requests",
                &[],
            )),
            entity_count: Family::histograms(
                about(
                    "feast_online_features_entity_count",
                    "Number of entity rows per online feature request",
                    &[],
                ),
                &ENTITIES,
            ),
            statuses: Family::counters(about(
                "feast_online_features_status_total",
                "Count of individual feature values by retrieval status per feature view",
                &["feature_view", "status"],
            )),
            pushes: Family::counters(about(
                "feast_push_request_total",
                "Total push requests to the feature store",
                &["push_source", "mode"],
            )),
            materializations: Family::counters(about(
                "feast_materialization_result_total",
                "Total materialization runs per feature view",
                &["feature_view", "status"],
            )),
            materialization_duration: Family::histograms(
                about(
                    "feast_materialization_duration_seconds",
                    "Duration of materialization per feature view in seconds",
                    &["feature_view"],
                ),
                &MATERIALIZATION,
            ),
            read_duration: Family::histograms(
                about(
                    "feast_feature_server_online_store_read_duration_seconds",
                    "Duration of the online store read phase in seconds (covers all table reads \
                     including parallel async)",
                    &[],
                ),
                &READ,
            ),
            transformation_duration: Family::histograms(
                about(
                    "feast_feature_server_transformation_duration_seconds",
                    "Duration of on-demand feature view transformations on read in seconds",
                    &["odfv_name", "mode"],
                ),
                &TRANSFORMATION,
            ),
            write_transformation_duration: Family::histograms(
                about(
                    "feast_feature_server_write_transformation_duration_seconds",
                    "Duration of on-demand feature view transformations on write in seconds",
                    &["odfv_name", "mode"],
                ),
                &TRANSFORMATION,
            ),
            freshness: Family::gauges(about(
                "feast_feature_freshness_seconds",
                "Seconds since the most recent materialization end time per feature view",
                &["feature_view", "project"],
            )),
            retrievals: Family::counters(about(
                "feast_offline_store_request_total",
                "Total offline store retrieval requests",
                &["method", "status"],
            )),
            retrieval_latency: Family::histograms(
                about(
                    "feast_offline_store_request_latency_seconds",
                    "Latency of offline store retrieval operations in seconds",
                    &["method"],
                ),
                &RETRIEVAL,
            ),
            retrieved_rows: Family::histograms(
                about(
                    "feast_offline_store_row_count",
                    "Number of rows returned by offline store retrieval",
                    &["method"],
                ),
                &RETRIEVED,
            ),
            store_duration: Family::histograms(
                about(
                    "feastrs_store_read_seconds",
                    "Time from sending the commands of an online read until the last row has come",
                    &[],
                ),
                &FINE,
            ),
            decode_duration: Family::histograms(
                about(
                    "feastrs_decode_seconds",
                    "Time from the last row of an online read until its answer is written out",
                    &[],
                ),
                &FINE,
            ),
            connections: Family::gauges(about(
                "feastrs_store_connections",
                "Connections to the online store",
                &["state"],
            )),
            registry_age: Family::gauges(about(
                "feastrs_registry_age_seconds",
                "Seconds since the registry was last read, or found to be unchanged",
                &[],
            )),
            registry_refreshes: Family::counters(about(
                "feastrs_registry_refresh_total",
                "Refreshes of the registry in the background",
                &["status"],
            )),
            in_flight: Family::gauges(about(
                "feastrs_requests_in_flight",
                "Requests that are being worked on",
                &[],
            )),
            shed: Family::counters(about(
                "feastrs_requests_shed_total",
                "Requests that were refused because too many were being worked on",
                &[],
            )),
            refused: Family::counters(about(
                "feastrs_requests_refused_total",
                "Requests without a token that is accepted, or without the permission",
                &["reason"],
            )),
        }
    }
}

impl Families {
    /// All of them, in the order in which they are written down.
    pub fn all(&self) -> [AnyFamily<'_>; 25] {
        use AnyFamily::{Counters, Gauges, Histograms};
        [
            Gauges(&self.cpu_usage),
            Gauges(&self.memory_usage),
            Counters(&self.requests),
            Histograms(&self.request_latency),
            Counters(&self.online_requests),
            Histograms(&self.entity_count),
            Counters(&self.statuses),
            Counters(&self.pushes),
            Counters(&self.materializations),
            Histograms(&self.materialization_duration),
            Histograms(&self.read_duration),
            Histograms(&self.transformation_duration),
            Histograms(&self.write_transformation_duration),
            Gauges(&self.freshness),
            Counters(&self.retrievals),
            Histograms(&self.retrieval_latency),
            Histograms(&self.retrieved_rows),
            Histograms(&self.store_duration),
            Histograms(&self.decode_duration),
            Gauges(&self.connections),
            Gauges(&self.registry_age),
            Counters(&self.registry_refreshes),
            Gauges(&self.in_flight),
            Counters(&self.shed),
            Counters(&self.refused),
        ]
    }
}
