//! What a materialization is asked for, and what it tells.

use crate::error::{Error, ErrorKind, Result};
use crate::offline::TimeWindow;
use crate::registry::FeatureView;

/// Fifty-two weeks: how far back Feast looks in the first incremental run of a view whose ttl
/// is zero (`feast/feature_store.py::materialize_incremental`).
const FIRST_RUN_WITHOUT_TTL: i64 = 52 * 7 * 86_400_000_000;

/// A materialization.
#[derive(Clone, Debug)]
pub struct MaterializeRequest {
    /// Names of the views; `None`: all that are online and enabled.
    pub views: Option<Vec<String>>,
    /// Which rows, and the interval to record.
    pub window: Window,
    /// Feast's `disable_event_timestamp`: takes every row from 1970 until this moment
    /// (microseconds since the epoch), whatever the window. `None`: the window's rows.
    pub every_row_until: Option<i64>,
}

/// The rows that count, by event timestamp; microseconds since the epoch, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The same for every view.
    Full {
        /// The first moment.
        start: i64,
        /// The last moment.
        end: i64,
    },
    /// From where each view was last materialized to.
    Incremental {
        /// The last moment.
        end: i64,
        /// The present: a view that was never materialized begins its ttl before this.
        now: i64,
        /// How long before that end a run begins, for rows that come late; microseconds.
        overlap: i64,
    },
}

impl Window {
    /// Errors: a start after the end.
    pub fn check(&self) -> Result<()> {
        match *self {
            Window::Full { start, end } if start > end => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the start of the time range, {}, lies after its end, {}",
                    iso(start),
                    iso(end)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The window for one view. Errors: an incremental run of a view that was never
    /// materialized and has no ttl.
    pub fn of_view(&self, view: &FeatureView) -> Result<TimeWindow> {
        match *self {
            Window::Full { start, end } => Ok(TimeWindow { start, end }),
            Window::Incremental { end, now, overlap } => {
                let last = view.materialization_intervals.iter().map(|interval| interval.1).max();
                let start = match (last, view.ttl) {
                    (Some(last), _) => last.saturating_sub(overlap),
                    (None, Some(ttl)) if ttl > 0 => now.saturating_sub(ttl),
                    (None, Some(_)) => now.saturating_sub(FIRST_RUN_WITHOUT_TTL),
                    (None, None) => return Err(no_start()),
                };
                Ok(TimeWindow { start, end })
            }
        }
    }
}

fn iso(micros: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(micros) {
        Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string(),
        None => format!("{micros} us since 1970"),
    }
}

#[cold]
fn no_start() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "was never materialized and has no ttl, so an incremental run does not know where to \
         start; run `materialize` once, or give it a ttl",
    )
}

/// What became of a materialization.
#[derive(Debug, Default)]
pub struct MaterializeReport {
    /// One for each view that is written and recorded, in the order in which they were chosen.
    pub views: Vec<ViewReport>,
    /// The views that failed. What was written of them stays, their interval is not recorded.
    pub failures: Vec<ViewFailure>,
}

/// A view that could not be done.
#[derive(Debug)]
pub struct ViewFailure {
    /// The view's name.
    pub view: String,
    /// Why; its message begins with the view.
    pub error: Error,
}

/// What became of one view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewReport {
    /// The view's name.
    pub view: String,
    /// The recorded interval: from, microseconds since the epoch.
    pub start: i64,
    /// The recorded interval: to, microseconds since the epoch.
    pub end: i64,
    /// Rows of the source that were looked at; row groups outside the interval are not.
    pub rows_read: u64,
    /// Entities whose row the store took.
    pub entities_written: u64,
    /// Entities left alone because the store has a newer row.
    pub rows_older: u64,
    /// Rows left out because a join key is null; always zero unless such rows are skipped.
    pub null_keys: u64,
    /// How long it took.
    pub seconds: f64,
}

impl ViewReport {
    /// Whether the source has no rows within the window.
    pub fn is_empty(&self) -> bool {
        self.entities_written == 0 && self.rows_older == 0 && self.null_keys == 0
    }
}

/// Told how a materialization goes, on the thread that asked for it; some views may be under way
/// at once.
///
/// A verification, which goes the same way, is told of with another `Report` of each view.
pub trait Progress<Report = ViewReport>: Sync {
    /// A view begins; its source has `total_rows` rows.
    fn view_started(&self, view: &str, total_rows: u64);
    /// Nothing has been written, or compared, for a moment. The search for the newest row of each
    /// entity, which comes before that, has passed `searched` rows of the source.
    fn waiting(&self, _view: &str, _searched: u64) {}
    /// `rows` more rows of the source are done: written, or compared, or found not to be needed.
    fn advanced(&self, view: &str, rows: u64);
    /// A view is done: written and recorded, or compared.
    fn view_finished(&self, report: &Report);
    /// A view has failed, or is given up because the caller asked to stop.
    fn view_failed(&self, view: &str, error: &Error);
}

/// Keeps quiet.
pub struct NoProgress;

impl<Report> Progress<Report> for NoProgress {
    fn view_started(&self, _view: &str, _total_rows: u64) {}
    fn advanced(&self, _view: &str, _rows: u64) {}
    fn view_finished(&self, _report: &Report) {}
    fn view_failed(&self, _view: &str, _error: &Error) {}
}
