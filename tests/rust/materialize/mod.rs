//! Materialization from Parquet files into a store in memory: which rows win, which files
//! count, and what happens when something fails. The real stores have tests of their own.

mod example;
mod faults;
pub mod fixture;
mod frames;
mod parts;
mod several;
mod sources;
mod winners;
