//! Materialization: the newest row of each entity, from a view's Parquet source to the online
//! store. The one place where offline meets online.
//!
//! For each view: [`plan`] pins the source and resolves names, `decide` reads keys and times
//! and marks the winning rows, `transfer` reads those rows again with their features and writes
//! them, `passes` has the one follow the other, `view` holds it together and records the interval
//! after the last write is acknowledged. [`run`] has some views under way at once, in one `budget`
//! of memory. [`select`] says which views, and which of them only Feast can do. Rows that are
//! handed over instead, as to `push`, go the way of [`frame`].
//!
//! Two passes, always: keys and times are a small part of a file, and the second pass writes
//! while it reads, which keeping decoded rows until all are decided would forbid.

mod blame;
mod budget;
pub(crate) mod decide;
pub mod frame;
pub mod ledger;
mod news;
mod passes;
pub mod plan;
pub mod ready;
pub mod request;
pub mod run;
pub mod select;
pub(crate) mod transfer;
mod view;
pub(crate) mod workers;

pub use ledger::{KeptByOthers, Ledger};
pub use request::{
    MaterializeReport, MaterializeRequest, NoProgress, Progress, ViewFailure, ViewReport, Window,
};
pub use run::materialize;
pub use select::{divide, native_obstacle, repo_obstacle, select_views};
