//! What a verification is asked for, and what it tells.

use crate::error::{Error, ErrorKind, Result};
use crate::key::NamedKeyValues;
use crate::materialize::ViewFailure;
use crate::offline::TimeWindow;
use crate::value::ValueType;

/// A verification.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// Names of the views, each of which the core can materialize.
    pub views: Vec<String>,
    /// Rows of the source with event timestamps outside are not looked at; microseconds since the
    /// epoch, both ends inclusive.
    pub window: TimeWindow,
    /// How many entities of each view are compared; `None`: all.
    pub sample: Option<usize>,
    /// Another seed, another sample; the same seed, the same entities.
    pub seed: u64,
    /// How many examples of each status with findings are kept, for each view.
    pub examples: usize,
}

impl VerifyRequest {
    /// Errors: an empty sample, a window that ends before it starts.
    pub fn check(&self) -> Result<()> {
        let refused = |message: &str| Err(Error::new(ErrorKind::InvalidArgument, message));
        if self.sample == Some(0) {
            return refused("a sample of 0 entities shows nothing; give 1 or more");
        }
        if self.window.start > self.window.end {
            return refused("the start of the time range lies after its end");
        }
        Ok(())
    }
}

/// What the comparison of one entity's row came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowStatus {
    /// The event timestamp and all values are those of the source.
    Matching,
    /// There is no row online. A finding.
    Missing,
    /// The row online is older than the newest row of the source. A finding.
    Stale,
    /// The row online has the event timestamp of the source, and other values. A finding.
    Different,
    /// What is online can't be read as a row. A finding.
    Unreadable,
    /// The row online is newer than the source, as one that was pushed; not a finding.
    Newer,
    /// There is no row online, and `key_ttl_seconds` or `field_ttl` say why; not a finding.
    Expired,
}

impl RowStatus {
    /// Every status.
    pub const ALL: [RowStatus; 7] = [
        RowStatus::Matching,
        RowStatus::Missing,
        RowStatus::Stale,
        RowStatus::Different,
        RowStatus::Unreadable,
        RowStatus::Newer,
        RowStatus::Expired,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            RowStatus::Matching => "matching",
            RowStatus::Missing => "missing",
            RowStatus::Stale => "stale",
            RowStatus::Different => "different",
            RowStatus::Unreadable => "unreadable",
            RowStatus::Newer => "newer",
            RowStatus::Expired => "expired",
        }
    }

    /// Whether it is something to be looked into.
    pub fn is_finding(self) -> bool {
        use RowStatus::{Different, Missing, Stale, Unreadable};
        matches!(self, Missing | Stale | Different | Unreadable)
    }
}

/// How many rows have each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; RowStatus::ALL.len()]);

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, status: RowStatus) {
        self.0[status as usize] += 1;
    }

    /// How many have it.
    pub fn of(&self, status: RowStatus) -> u64 {
        self.0[status as usize]
    }

    /// How many there are, whatever their status.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// How the value of a feature online differs from that of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Another value of the same type, or null where the other is not.
    Value,
    /// A value of another type.
    Type,
    /// The row is there, the feature is not.
    Absent,
    /// Bytes that are no value.
    Undecodable,
}

impl Problem {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Problem::Value => "value",
            Problem::Type => "type",
            Problem::Absent => "absent",
            Problem::Undecodable => "undecodable",
        }
    }
}

/// A feature of one row that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The feature's name.
    pub feature: String,
    /// Its declared type.
    pub value_type: ValueType,
    /// How the two differ.
    pub problem: Problem,
    /// What the source says: a serialized `feast.types.Value`, empty for null.
    pub source: Vec<u8>,
    /// What is online, as it is stored; `None`: nothing.
    pub online: Option<Vec<u8>>,
}

/// A row that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// A finding.
    pub status: RowStatus,
    /// The entity: join keys and values; empty for a view without entity.
    pub key: NamedKeyValues,
    /// The event timestamp of the newest row in the source, microseconds since the epoch.
    pub source_time: i64,
    /// That of the row online; `None`: there is none, or none that can be read.
    pub online_time: Option<i64>,
    /// The features that differ, where the times are the same.
    pub differences: Vec<Difference>,
    /// Why a row can't be read.
    pub reason: Option<String>,
}

/// What was found about one feature.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureReport {
    /// Its name.
    pub feature: String,
    /// Its declared type.
    pub value_type: ValueType,
    /// Rows whose event timestamp online is that of the source.
    pub compared: u64,
    /// Those of them in which the feature differs.
    pub different: u64,
    /// Those of them in which the feature is not there at all; they are `different`, too.
    pub absent: u64,
    /// How its values are distributed, in the source and online.
    pub drift: Drift,
}

/// The distributions of a feature, over the entities that have a row online, whatever its time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drift {
    /// How many entities those are.
    pub rows: u64,
    /// What the source has for them.
    pub source: Distribution,
    /// What is online.
    pub online: Distribution,
    /// The population stability index of what is online against the source; `None` for types
    /// without a distribution (lists, maps, bytes, …), and without rows.
    pub psi: Option<f64>,
    /// Texts and booleans: the most frequent ones of both sides, with their shares of all rows.
    pub categories: Vec<Category>,
}

/// The values of one side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// How many are null; online, also those that are not there or no value.
    pub nulls: u64,
    /// Of the finite numbers; times are seconds since the epoch. `None`: there are none.
    pub moments: Option<Moments>,
}

/// Numbers in short.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, as of a sample (n - 1); `None` for a single one.
    pub std: Option<f64>,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// At [`QUANTILES`](super::drift::QUANTILES).
    pub quantiles: [f64; 5],
}

/// A value and how often it occurs.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// The text, cut after 64 bytes.
    pub value: String,
    /// Its share of the rows of the source, 0 to 1.
    pub source: f64,
    /// Its share of the rows online.
    pub online: f64,
}

/// What was found about one view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewVerification {
    /// The view's name.
    pub view: String,
    /// The event timestamps that were looked at lie between these, microseconds since the epoch,
    /// both ends inclusive, in the intervals that the registry says are materialized. `None`:
    /// none are, and nothing was compared.
    pub window: Option<TimeWindow>,
    /// Rows of the source that were looked at; row groups outside the window are not.
    pub rows_read: u64,
    /// Rows of the source that were left out because a join key is null.
    pub null_keys: u64,
    /// How many entities the source has in the window.
    pub entities: u64,
    /// Whether `entities` is an estimate, made from a sample.
    pub is_estimate: bool,
    /// Entities that were compared, by what came out.
    pub counts: Counts,
    /// In the order of the view.
    pub features: Vec<FeatureReport>,
    /// Some of the findings.
    pub examples: Vec<Example>,
    /// How long it took.
    pub seconds: f64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// One for each view that could be verified, in the order asked.
    pub views: Vec<ViewVerification>,
    /// The others.
    pub failures: Vec<ViewFailure>,
}
