//! Plans that are kept as long as the registry stays as it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::FramePlan;
use crate::config::RepoConfig;
use crate::error::Result;
use crate::process_local::ProcessLocal;
use crate::registry::Catalog;

/// Plans of views, all of one snapshot of the registry.
#[derive(Default)]
pub struct FramePlans(ProcessLocal<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    catalog: Option<Arc<Catalog>>,
    plans: HashMap<String, Arc<FramePlan>>,
}

impl FramePlans {
    /// The plan of the view of that name, made now if it was not yet.
    pub fn plan(
        &self,
        name: &str,
        catalog: &Arc<Catalog>,
        config: &RepoConfig,
    ) -> Result<Arc<FramePlan>> {
        let mut kept = self.0.get().lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.catalog.as_ref().is_some_and(|known| Arc::ptr_eq(known, catalog)) {
            *kept = Kept { catalog: Some(catalog.clone()), plans: HashMap::new() };
        }
        if let Some(plan) = kept.plans.get(name) {
            return Ok(plan.clone());
        }
        let plan = FramePlan::new(catalog.view(name)?, config)
            .map_err(|error| error.context(format_args!("view '{name}'")))?;
        let plan = Arc::new(plan);
        kept.plans.insert(name.to_owned(), plan.clone());
        Ok(plan)
    }
}
