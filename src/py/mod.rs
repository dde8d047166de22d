//! The Python bindings: own the inputs, enter, call one core function, wrap. The only place
//! that knows Python; it must not decide anything that the core could.

use pyo3::prelude::*;

/// The extension module `feastrs._native`.
#[pymodule]
mod _native {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
