//! Batch sources on their way in: which files a source is ([`source`]), on disk or in an object
//! store (`bucket`, `objects`, `object_file`), their rows ([`scan`]), their times ([`ticks`],
//! [`timestamps`]), which of them are newer than others (`parts`), and the newest row of each
//! entity: in memory (`latest`) or past it (`spill`), which [`decider`] chooses; or the row that
//! each label of a training set knew ([`asof`]). And on their way out: rows added to a source
//! ([`append`](mod@append), `append_object`).
//!
//! Must not know online stores: what is decided here is written by `materialize`.

pub mod append;
mod append_object;
pub mod asof;
mod bucket;
pub mod decider;
mod latest;
mod listing;
mod null_keys;
mod object_file;
mod objects;
mod parts;
pub mod row_set;
pub mod scan;
mod sink;
pub mod source;
mod spill;
pub mod ticks;
pub mod timestamps;

pub use append::append;
pub use bucket::StopSwitch;
pub use decider::{CandidateBatch, Decider};
pub use latest::{Candidate, KeyHasher};
pub use null_keys::{NullKeys, null_keys};
pub use parts::{Part, parts_by_time};
pub use row_set::RowSet;
pub use scan::{Scan, ScanBatch, ScanGroup, ScanKey};
pub use sink::ParquetSink;
pub use source::{PinnedFile, SourceFiles, cloud_settings};
pub use ticks::Ticks;
pub use timestamps::{Moment, TimeWindow, Timestamps};
