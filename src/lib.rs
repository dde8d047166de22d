//! The core of feastrs: the hot work of a Feast feature store, with no Python in it.
//!
//! Layers, lowest first. A file imports lower layers and its own folder, nothing else
//! (`tests/rust/layers.rs` enforces it). Data flows one way:
//! request -> plan -> store -> assemble -> columns -> Python, Arrow or JSON.
//!
//! | layer | modules | what they know |
//! |---|---|---|
//! | L0 | [`error`], [`call`], [`config`], [`process_local`], [`runtime`] | failures, deadlines and interrupts, `feature_store.yaml`, forks, threads |
//! | L1 | [`value`], [`key`], [`hash`] | Feast's bytes: values, entity keys, field names |
//! | L1 | [`cloud`] | clients of object stores, and their credentials |
//! | L2 | [`registry`], [`store`] | where definitions and online rows live |
//! | L3 | [`online`], [`offline`] | reading features online; scanning and deduplicating sources |
//! | L4 | [`materialize`], [`history`] | where offline meets online; features as they were known |
//! | L5 | [`server`] | features over HTTP and gRPC, as `feast serve` and `feast listen` have them |
//! | L5 | [`verify`] | whether what is online is what the sources say |
//! | L6 | `py` | Python bindings, behind the feature `python` |
//! | L6 | `fuzz` | what is fuzzed, for tests and fuzzers only |
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod call;
pub mod config;
pub mod error;
pub mod process_local;
pub mod runtime;

pub mod cloud;
pub mod hash;
pub mod key;
pub mod value;

pub mod registry;
pub mod store;

pub mod offline;
pub mod online;

pub mod history;
pub mod materialize;

pub mod server;
pub mod verify;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

#[cfg(feature = "python")]
mod py;

pub use error::{Error, ErrorKind, Result};

// The unit tests watch how much is allocated.
#[cfg(all(test, not(feature = "python")))]
#[global_allocator]
static ALLOCATOR: fuzz::Counting = fuzz::Counting;
