//! What is counted while features are served, for Prometheus: under Feast's names, labels and
//! buckets (`feast/metrics.py`), so that dashboards carry over, and under `feastrs_` what Feast
//! does not have.
//!
//! `instrument` are counters, gauges and histograms, which nobody waits for; `family` are those
//! of one name with different labels; `families` is the list of all; `text` writes them down,
//! `exporter` serves them on a port.
//! [`Metrics`] is what the rest of the server sees: one line where something happens. Labels are
//! resolved when a read is planned ([`ReadSeries`]), not when it is done.
//!
//! There is one set for each process ([`Metrics::of_process`]): whoever serves in it, everything
//! is counted together. Must not know the server.

mod exporter;
mod families;
mod family;
mod instrument;
mod process;
mod recorder;
mod series;
mod text;

pub use exporter::{DEFAULT_PORT, Exporter, Scrape};
pub use recorder::{Endpoint, Metrics, Outcome, RequestClock};
pub use series::{Counts, ReadSeries};
pub use text::CONTENT_TYPE;
