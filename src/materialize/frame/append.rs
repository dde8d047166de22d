//! Rows of a frame to the batch sources of views: what a push to the offline store does.

use arrow_array::RecordBatch;

use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::{self, cloud_settings};
use crate::registry::FeatureView;

/// Adds the rows to the batch source of each view; gives how many, view by view. Views that
/// share a source, as those of one push source do, get them once: the later ones none.
pub fn append_frame(
    views: &[&FeatureView],
    batches: &[RecordBatch],
    config: &RepoConfig,
    call: &Call<'_>,
) -> Result<Vec<(String, u64)>> {
    let mut done: Vec<&str> = Vec::new();
    let mut report = Vec::with_capacity(views.len());
    for view in views {
        let source = view.batch_source.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::NeedsFeast, format!("view '{}' has no batch source", view.name))
        })?;
        let mut rows = 0;
        if !done.contains(&source.path.as_str()) {
            let (folder, settings) = (config.repo_path.as_deref(), cloud_settings(source, config));
            rows = offline::append(&source.path, folder, batches, &settings, call)
                .map_err(|error| error.context(format_args!("view '{}'", view.name)))?;
            done.push(&source.path);
        }
        report.push((view.name.clone(), rows));
    }
    Ok(report)
}
