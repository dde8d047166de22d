//! State that belongs to one process: [`ProcessLocal`], what a forked child inherits and neither
//! uses nor drops, and [`process_id`], which tells whose it is.

mod local;
mod process_id;

pub use local::ProcessLocal;
pub use process_id::process_id;
