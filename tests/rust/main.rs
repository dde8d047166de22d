//! Every Rust test that crosses modules, in one binary: one link, one run.

mod layers;
