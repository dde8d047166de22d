//! What a fork does to a process: [`ProcessLocal`], state that a forked child inherits and
//! neither uses nor drops, [`process_id`], which tells whose it is, and [`fork_gate`], for what
//! a fork must not interrupt.

pub mod fork_gate;
mod local;
mod process_id;

pub use local::ProcessLocal;
pub use process_id::process_id;
