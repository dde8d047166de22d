//! Rows that somebody hands over, such as a data frame, to the online store: what
//! `write_to_online_store` and `push` do.
//!
//! - [`plan`]: which columns a view takes, and how its keys are encoded; kept in [`plans`].
//! - [`columns`]: the columns as they were given, batch by batch.
//! - [`select`]: the views that a push source feeds, and which of them only Feast can write.
//! - [`append`]: all rows to the views' batch sources.
//! - [`write`]: the newest row of each entity, encoded and written.
//!
//! A frame is in memory already, so it is decided as a whole; what comes from files goes the
//! way of [`materialize`](super::run), in bounded memory. Must not know who gives the rows.

pub mod append;
pub mod columns;
pub mod plan;
pub mod plans;
pub mod select;
mod times;
pub mod write;

pub use append::append_frame;
pub use columns::{Cells, FrameBatch};
pub use plan::{FrameColumn, FramePlan};
pub use plans::FramePlans;
pub use select::{FrameTargets, of_push_source, of_source, of_view};
pub use write::{FrameOptions, FrameReport, Nothing, write_frame};
