//! Features as they were known: the values that each label (an entity row with a time) would
//! have been served, read from the views' Parquet sources.
//!
//! [`plan`] says which columns of which views are asked; [`labels`] has what of the entity frame
//! the join needs; [`join`](mod@join) reads keys and times of the sources and finds each
//! label's row (`search`), then reads the winning rows' features, column by column (`gather`).
//! Both passes run on all processors (`pool`), and for as many labels at once as memory is for.
//! `frame` reads an entity frame that is a Parquet file, [`range`] makes one of the entities of a
//! time range; `explain` says what would be read.
//!
//! Must not know online stores, nor how frames and answers look to callers.

mod explain;
mod frame;
mod gather;
pub mod join;
mod keys;
pub mod labels;
pub mod plan;
mod pool;
pub mod range;
mod search;
mod sources;

pub use frame::FrameFiles;
pub use join::{Join, JoinedColumns};
pub use labels::Labels;
pub use plan::HistoryPlan;
pub use range::{DateRange, entities};
pub use sources::Sources;
