//! The Python bindings: the module `feastrs._native`. Each function owns its inputs, enters
//! the core with the GIL released, calls one core function, and wraps what comes back.
//!
//! The only folder that knows Python. Files carry the names of the core modules they open.

mod answer;
mod asgi;
mod config;
mod entities;
mod error;
mod event_loop;
mod fork;
mod frame;
mod frame_write;
mod history;
mod history_frame;
mod host;
mod logging;
mod materialize;
mod metrics;
mod online;
mod plans;
mod ready;
mod registry;
mod server;
mod signals;
mod store;
mod value;
mod verify;

use pyo3::prelude::*;

/// The name of a value's class, for messages.
fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "unknown".to_owned(), |name| name.to_string())
}

/// The Rust core of feastrs. Not for direct use: see `feastrs.FeatureStore`.
// Nothing here leans on the GIL: CONTRIBUTING.md, "Without the GIL", has the audit.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    error::register(module)?;
    fork::register(module.py())?;
    logging::register();
    metrics::register(module)?;
    registry::register(module)?;
    value::register(module)?;
    module.add_class::<store::Store>()?;
    module.add_class::<event_loop::LoopReads>()?;
    module.add_class::<server::Server>()?;
    module.add_class::<online::OnlineReader>()?;
    module.add_class::<answer::OnlineResult>()?;
    module.add_class::<answer::ResponseBase>()?;
    module.add_class::<materialize::ViewReport>()?;
    module.add_class::<asgi::ServerApp>()?;
    module.add_class::<history::HistoricalJob>()?;
    module.add_class::<history::HistoricalPieces>()?;
    module.add_class::<history::HistoricalResult>()?;
    module.add_class::<history::ParquetFile>()?;
    Ok(())
}
