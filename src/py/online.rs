//! Online reads as Python sees them: the prepared reader. What it gives is in `answer`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::online::assemble::StatusRules;
use crate::process_local::ProcessLocal;

use super::answer::OnlineResult;
use super::entities::to_entities;
use super::event_loop::LoopReads;
use super::plans::{Names, Prepared};
use super::store::Store;

/// Reads what `prepared` says for the entities of `entity_rows`.
pub fn read(
    py: Python<'_>,
    prepared: Arc<Prepared>,
    entity_rows: &Bound<'_, PyAny>,
    rules: &StatusRules,
    wants_versions: bool,
) -> PyResult<OnlineResult> {
    let entities = to_entities(&prepared, entity_rows)?;
    let names = Names::of(prepared.clone(), &entities);

    let answer = py.detach(|| prepared.read(entities, rules))?;

    Ok(OnlineResult::of(prepared.reader.plan(), names, answer, rules, wants_versions))
}

/// Starts the same read for `reads`' loop: `future` will have the answer. Gives its number.
pub fn start(
    prepared: Arc<Prepared>,
    entity_rows: &Bound<'_, PyAny>,
    rules: StatusRules,
    wants_versions: bool,
    reads: &LoopReads,
    future: Bound<'_, PyAny>,
) -> PyResult<u64> {
    let entities = to_entities(&prepared, entity_rows)?;

    Ok(reads.start(prepared, entities, rules, wants_versions, future.unbind())?)
}

/// A reader that was prepared once, for the registry as it is: when the registry changes, it
/// prepares itself again.
#[pyclass(frozen, module = "feastrs._native")]
pub struct OnlineReader {
    store: Py<Store>,
    features: Py<PyAny>,
    full_feature_names: bool,
    present: ProcessLocal<Mutex<Option<Arc<Prepared>>>>,
}

impl OnlineReader {
    pub(super) fn new(
        store: &Bound<'_, Store>,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
    ) -> PyResult<Self> {
        let reader = OnlineReader {
            store: store.clone().unbind(),
            // A list could change.
            features: match features.cast::<PyList>() {
                Ok(list) => list.to_tuple().into_any().unbind(),
                Err(_) => features.clone().unbind(),
            },
            full_feature_names,
            present: ProcessLocal::new(),
        };
        reader.prepared(store.py())?;
        Ok(reader)
    }

    fn prepared(&self, py: Python<'_>) -> PyResult<Arc<Prepared>> {
        let store = self.store.get();
        let catalog = store.present_catalog(py)?;
        if let Some(prepared) = self.present().as_ref()
            && Arc::ptr_eq(&prepared.catalog, &catalog)
        {
            return Ok(prepared.clone());
        }
        let prepared = store.prepared(py, self.features.bind(py), self.full_feature_names)?;
        *self.present() = Some(prepared.clone());
        Ok(prepared)
    }

    // Held for a look or a swap.
    fn present(&self) -> MutexGuard<'_, Option<Arc<Prepared>>> {
        self.present.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl OnlineReader {
    /// Reads for the entities of `entities`: a list of dicts, or a dict of columns.
    fn read(&self, py: Python<'_>, entities: &Bound<'_, PyAny>) -> PyResult<OnlineResult> {
        let prepared = self.prepared(py)?;
        read(py, prepared, entities, &self.store.get().status_rules(), false)
    }

    /// Starts reading for the entities of `entities`; see `feastrs.event_loop`.
    fn start(
        &self,
        entities: &Bound<'_, PyAny>,
        reads: &Bound<'_, LoopReads>,
        future: Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let prepared = self.prepared(entities.py())?;
        start(prepared, entities, self.store.get().status_rules(), false, reads.get(), future)
    }

    /// Names of the features, in the order asked.
    #[getter]
    fn feature_names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let prepared = self.prepared(py)?;
        Ok(prepared.reader.plan().feature_names().map(str::to_owned).collect())
    }
}
