//! Batch sources on their way in: which files a source is ([`source`]), their rows
//! ([`scan`]), their times ([`timestamps`]), and the newest row of each entity ([`latest`]).
//!
//! Must not know online stores: what is decided here is written by `materialize`.

pub mod latest;
mod listing;
pub mod row_set;
pub mod scan;
pub mod source;
pub mod timestamps;

pub use latest::{Candidate, KeyHasher, Latest, NullKeys, Observed, Partition, null_keys};
pub use row_set::RowSet;
pub use scan::{Scan, ScanBatch};
pub use source::{PinnedFile, SourceFiles};
pub use timestamps::{Moment, TimeWindow, Timestamps};
