//! Verification: whether what is online is what the sources say it should be, the check for
//! skew between training and serving.
//!
//! For each view: `coverage` says which rows of the source belong online, the first pass of a
//! materialization finds the newest row of each entity, of all or of those in the `sample`,
//! and the second gives those rows to `compare`, which reads them online (`found`) and judges
//! each. `drift` compares the distributions of both sides, feature by feature. `view` holds it
//! together for one view, [`run`] for several, one after another.
//!
//! Nothing is written, neither to the store nor to the registry. Rows that are online and not in
//! the source are not looked for: that would take reading the whole store.

mod compare;
mod coverage;
pub mod drift;
mod equal;
mod found;
pub mod report;
pub mod run;
mod sample;
mod view;

pub use report::{
    Category, Counts, Difference, Distribution, Drift, Example, FeatureReport, Moments, Problem,
    RowStatus, VerifyReport, VerifyRequest, ViewVerification,
};
pub use run::verify;
