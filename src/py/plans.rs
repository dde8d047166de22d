//! Prepared reads, kept by the request that asked for them: a request that comes again is
//! recognized by its Python strings, whose hashes Python keeps, and copies none of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use smallvec::SmallVec;

use crate::error::Result;
use crate::online::assemble::StatusRules;
use crate::online::{Answer, Entities, FeatureSet, OnlineReader};
use crate::process_local::ProcessLocal;
use crate::registry::Catalog;
use crate::server::metrics::{Metrics, ReadSeries};

use super::signals::interruptible;

// Requests of a service come in a handful of shapes; past this many, old plans are forgotten.
const MAX_PLANS: usize = 256;

/// What is settled once for a request and a registry snapshot.
pub struct Prepared {
    pub reader: OnlineReader,
    // Response names of the plan's keys and of its columns.
    key_names: Vec<Py<PyString>>,
    column_names: Vec<Py<PyString>>,
    // For a plan with one key: a dict of all its names, to be copied.
    blank: Option<(usize, Py<PyDict>)>,
    /// The snapshot that the plan was made from.
    pub catalog: Arc<Catalog>,
    // What its reads are counted in, once they are.
    series: OnceLock<ReadSeries>,
}

impl Prepared {
    pub fn new(py: Python<'_>, reader: OnlineReader, catalog: Arc<Catalog>) -> Self {
        let text = |name: &str| PyString::intern(py, name).unbind();
        let plan = reader.plan();
        let key_names = plan.keys.iter().map(|key| text(&key.name)).collect();
        let column_names = plan.column_names().map(text).collect();
        let mut prepared = Prepared {
            reader,
            key_names,
            column_names,
            blank: None,
            catalog,
            series: OnceLock::new(),
        };
        prepared.blank = prepared.make_blank(py);
        prepared
    }

    /// Reads for `entities`, and counts it where reads of the library are counted.
    pub fn read(&self, entities: Entities, rules: &StatusRules) -> Result<Answer> {
        if !Metrics::of_process().counts_library() {
            return self.reader.read(entities, rules, &interruptible());
        }
        let rows = entities.rows;
        let answer = self.reader.read_timed(entities, rules, &interruptible());
        self.count(rows, &answer);
        answer
    }

    /// Counts a read of so many entity rows, where reads of the library are counted.
    pub fn count(&self, rows: usize, answer: &Result<Answer>) {
        let metrics = Metrics::of_process();
        if !metrics.counts_library() {
            return;
        }
        metrics.read_begins(rows);
        if let Ok(answer) = answer {
            let plan = self.reader.plan();
            let new = || metrics.view_series(plan.read_views());
            metrics.read_ends(self.series.get_or_init(new), answer);
        }
    }

    fn make_blank(&self, py: Python<'_>) -> Option<(usize, Py<PyDict>)> {
        let (key, name) = self.sole_key(py)?;
        let blank = PyDict::new(py);
        blank.set_item(name, py.None()).ok()?;
        for name in &self.column_names {
            blank.set_item(name, py.None()).ok()?;
        }
        // A column may have the key's name.
        (blank.len() == self.column_names.len() + 1).then(|| (key, blank.unbind()))
    }

    /// The join key that the plan needs, with its name, if it is one alone.
    pub fn sole_key<'a, 'py>(
        &'a self,
        py: Python<'py>,
    ) -> Option<(usize, &'a Bound<'py, PyString>)> {
        let mut needed =
            self.reader.plan().keys.iter().enumerate().filter(|(_, key)| key.is_needed);
        match (needed.next(), needed.next()) {
            (Some((index, _)), None) => {
                self.key_names.get(index).map(|name| (index, name.bind(py)))
            }
            _ => None,
        }
    }
}

/// Names of an answer's columns, as Python strings.
pub enum Names {
    /// Those of the plan's keys that were given, and of its columns.
    Prepared(Arc<Prepared>, SmallVec<[usize; 2]>),
    /// Its own.
    Own(Vec<Py<PyString>>),
}

impl Names {
    /// Of the answer for `entities`.
    pub fn of(prepared: Arc<Prepared>, entities: &Entities) -> Self {
        let keys = entities.columns.iter().map(|(key, _)| *key).collect();
        Names::Prepared(prepared, keys)
    }

    /// The name of column `index`.
    pub fn get(&self, index: usize) -> Option<&Py<PyString>> {
        match self {
            Names::Prepared(prepared, keys) => match keys.get(index) {
                Some(key) => prepared.key_names.get(*key),
                None => prepared.column_names.get(index - keys.len()),
            },
            Names::Own(names) => names.get(index),
        }
    }

    /// A dict to be filled, which may have the names already: putting values under keys that
    /// are there costs half of what a growing dict does.
    pub fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match self {
            Names::Prepared(prepared, keys) => match &prepared.blank {
                Some((key, blank)) if keys[..] == [*key] => blank.bind(py).copy(),
                _ => Ok(PyDict::new(py)),
            },
            Names::Own(_) => Ok(PyDict::new(py)),
        }
    }
}

/// What is asked for, as Python gave it.
pub struct Request {
    features: Asked,
    full_feature_names: bool,
    hash: isize,
}

enum Asked {
    References(Vec<Py<PyString>>),
    Service(Py<PyString>),
}

/// What is asked for, as the core takes it.
pub enum Features {
    References(Vec<String>),
    Service(String),
}

impl Features {
    pub fn as_set(&self) -> FeatureSet<'_> {
        match self {
            Features::References(references) => FeatureSet::References(references),
            Features::Service(name) => FeatureSet::Service(name),
        }
    }
}

impl Request {
    /// `features` is a list or tuple of references, or a feature service.
    pub fn new(features: &Bound<'_, PyAny>, full_feature_names: bool) -> PyResult<Self> {
        let (features, hash) = if let Ok(list) = features.cast::<PyList>() {
            references(list.len(), list.iter())?
        } else if let Ok(tuple) = features.cast::<PyTuple>() {
            references(tuple.len(), tuple.iter())?
        } else {
            let name = plain(service_name(features)?)?;
            let hash = name.hash()?;
            (Asked::Service(name.unbind()), !hash)
        };
        let hash = mix(hash, isize::from(full_feature_names));
        Ok(Request { features, full_feature_names, hash })
    }

    /// Its references in a list that nobody else has; `None`: it is for a service.
    fn list(&self, py: Python<'_>) -> PyResult<Option<Py<PyList>>> {
        match &self.features {
            Asked::References(references) => Ok(Some(PyList::new(py, references)?.unbind())),
            Asked::Service(_) => Ok(None),
        }
    }

    /// The request with strings of its own.
    pub fn features(&self, py: Python<'_>) -> PyResult<Features> {
        Ok(match &self.features {
            Asked::References(references) => Features::References(
                references.iter().map(|text| text.extract(py)).collect::<PyResult<_>>()?,
            ),
            Asked::Service(name) => Features::Service(name.extract(py)?),
        })
    }

    fn is_same(&self, other: &Request, py: Python<'_>) -> bool {
        if self.hash != other.hash || self.full_feature_names != other.full_feature_names {
            return false;
        }
        let is_equal = |a: &Py<PyString>, b: &Py<PyString>| {
            a.is(b) || a.bind(py).as_any().eq(b).unwrap_or(false)
        };
        match (&self.features, &other.features) {
            (Asked::References(ours), Asked::References(theirs)) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| is_equal(a, b))
            }
            (Asked::Service(ours), Asked::Service(theirs)) => is_equal(ours, theirs),
            _ => false,
        }
    }
}

fn references<'py>(
    count: usize,
    items: impl Iterator<Item = Bound<'py, PyAny>>,
) -> PyResult<(Asked, isize)> {
    let mut references = Vec::with_capacity(count);
    let mut combined = 0;
    for item in items {
        let text = item.cast_into::<PyString>().map_err(|other| {
            let given = other.into_inner();
            PyTypeError::new_err(format!(
                "features has an element of type {}; give '<feature view>:<feature>'",
                super::type_name(&given)
            ))
        })?;
        let text = plain(text)?;
        combined = mix(combined, text.hash()?);
        references.push(text.unbind());
    }
    Ok((Asked::References(references), combined))
}

/// The text as a string of Python's own: a class derived from `str` may hash and compare by
/// Python code, which must not run while the plans are locked.
fn plain(text: Bound<'_, PyString>) -> PyResult<Bound<'_, PyString>> {
    match text.is_exact_instance_of::<PyString>() {
        true => Ok(text),
        false => Ok(PyString::new(text.py(), text.to_str()?)),
    }
}

fn service_name<'py>(features: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let refused = || {
        PyTypeError::new_err(format!(
            "features is of type {}; give a list of '<feature view>:<feature>' or a feature service",
            super::type_name(features)
        ))
    };
    if features.is_instance_of::<PyString>() {
        return Err(refused());
    }
    let name = features.getattr_opt("name")?.ok_or_else(refused)?;
    name.cast_into::<PyString>().map_err(|_| refused())
}

// The order of references counts.
fn mix(hash: isize, next: isize) -> isize {
    (hash.rotate_left(5) ^ next).wrapping_mul(0x517c_c1b7_2722_0a95_u64 as isize)
}

/// The prepared reads of one store, all of one snapshot of the registry.
#[derive(Default)]
pub struct Plans(ProcessLocal<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    catalog: Option<Arc<Catalog>>,
    by_hash: HashMap<isize, (Request, Arc<Planned>)>,
    // What was found or kept last.
    last: Option<Arc<Planned>>,
}

struct Planned {
    // The references that were asked for; `None`: it was a service.
    list: Option<Py<PyList>>,
    full_feature_names: bool,
    prepared: Arc<Prepared>,
}

impl Kept {
    fn is_of(&self, catalog: &Arc<Catalog>) -> bool {
        self.catalog.as_ref().is_some_and(|planned| Arc::ptr_eq(planned, catalog))
    }
}

impl Plans {
    /// What was prepared for `request`, if it was made from `catalog`.
    pub fn find(
        &self,
        py: Python<'_>,
        request: &Request,
        catalog: &Arc<Catalog>,
    ) -> Option<Arc<Prepared>> {
        let mut kept = self.lock();
        if !kept.is_of(catalog) {
            return None;
        }
        let (known, planned) = kept.by_hash.get(&request.hash)?;
        let found = known.is_same(request, py).then(|| planned.clone())?;
        let prepared = found.prepared.clone();
        kept.last = Some(found);
        Some(prepared)
    }

    /// What was prepared for the last request, if this one is a list of the same references:
    /// Python compares lists faster than anybody else could, who has to ask it for each element.
    pub fn find_last(
        &self,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
        catalog: &Arc<Catalog>,
    ) -> PyResult<Option<Arc<Prepared>>> {
        let Ok(features) = features.cast_exact::<PyList>() else { return Ok(None) };
        // Not locked while Python compares: classes derived from `str` may do so by Python code.
        let Some(last) = self.lock().last.clone() else { return Ok(None) };
        let Some(list) = &last.list else { return Ok(None) };
        let is_last = last.full_feature_names == full_feature_names
            && Arc::ptr_eq(&last.prepared.catalog, catalog)
            && list.bind(features.py()).as_any().eq(features)?;
        Ok(is_last.then(|| last.prepared.clone()))
    }

    /// Keeps what was prepared for `request`.
    pub fn keep(&self, py: Python<'_>, request: Request, prepared: &Arc<Prepared>) -> PyResult<()> {
        let planned = Arc::new(Planned {
            list: request.list(py)?,
            full_feature_names: request.full_feature_names,
            prepared: prepared.clone(),
        });
        let mut kept = self.lock();
        if !kept.is_of(&prepared.catalog) || kept.by_hash.len() >= MAX_PLANS {
            kept.by_hash.clear();
            kept.catalog = Some(prepared.catalog.clone());
        }
        kept.last = Some(planned.clone());
        kept.by_hash.insert(request.hash, (request, planned));
        Ok(())
    }

    // Held for a lookup or an insertion, in which no Python code runs: see `plain`.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}
