//! Online reads: references -> [`ReadPlan`] -> store -> [`Answer`].
//!
//! [`plan`] and [`assemble`] are pure; [`read`] joins them to a store. Must not know how
//! requests arrive or how answers are presented.

pub mod answer;
mod asked;
pub mod assemble;
pub mod columns;
pub mod found;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod matrix;
pub mod message;
pub mod on_demand;
pub mod plan;
pub mod precomputed;
pub mod read;
pub mod reference;

pub(crate) use asked::{Asked, AskedView, check_computable};
pub(crate) use plan::{check_collisions, field};

pub use answer::{FeatureVector, OnlineFeatures, Status, Statuses};
pub use found::{Answer, AnswerColumn, StoreTime, Tally, Values};
pub use message::ViewVersion;
pub use plan::{FeatureSet, PlanOptions, ReadPlan, RequestKey};
pub use read::{Entities, OnlineReader};
pub use reference::FeatureRef;
