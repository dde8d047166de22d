//! The Python bindings: the module `feastrs._native`. Each function owns its inputs, enters
//! the core with the GIL released, calls one core function, and wraps what comes back.
//!
//! The only folder that knows Python. Files carry the names of the core modules they open.

mod config;
mod entities;
mod error;
mod materialize;
mod online;
mod registry;
mod signals;
mod store;
mod value;

use pyo3::prelude::*;

/// The Rust core of feastrs. Not for direct use: see `feastrs.FeatureStore`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    error::register(module)?;
    registry::register(module)?;
    value::register(module)?;
    module.add_class::<store::Store>()?;
    module.add_class::<online::OnlineResult>()?;
    module.add_class::<materialize::ViewReport>()?;
    Ok(())
}
