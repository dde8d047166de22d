//! What a join would read, in words.

use std::fmt::Write;

use super::labels::Labels;
use super::plan::HistoryPlan;
use super::search::searches;
use super::sources::Sources;
use crate::error::Result;

/// One line for the labels, and some for each view: files, row groups that are read and those
/// that are not, columns of both passes.
pub(super) fn explain(
    plan: &HistoryPlan,
    sources: &Sources,
    labels: &Labels,
    filter_by_created: bool,
) -> Result<String> {
    let searches = searches(&plan.views, sources, labels, filter_by_created)?;
    let mut text = String::new();
    let mut line = |words: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{words}");
    };
    line(format!("{} rows of the entity frame", labels.len()));
    for (index, (view, search)) in plan.views.iter().zip(&searches).enumerate() {
        let files = sources.of(index).files();
        let (groups, read, rows) = search.extent()?;
        line(format!("view '{}':", view.name));
        let first = files.first().map_or("", |file| file.name.as_str());
        match files.len() {
            1 => line(format!("  file {first}")),
            several => line(format!("  {several} files, the first {first}")),
        }
        line(format!(
            "  row groups: {read} of {groups} are read ({} passed over by their times and keys), \
             {rows} rows",
            groups - read
        ));
        line(format!("  first pass, to find each label's row: {}", search.columns().join(", ")));
        let of_view = plan.columns.iter().filter(|column| column.view == index);
        let names: Vec<&str> =
            of_view.map(|column| view.features[column.feature].source_column.as_str()).collect();
        line(format!("  second pass, of rows that some label has: {}", names.join(", ")));
        if let Some(ttl) = view.ttl_micros {
            line(format!("  rows older than {} seconds are none", ttl as f64 / 1e6));
        }
    }
    for view in &plan.on_demand {
        line(format!("computed by '{}': {}", view.name, view.columns.join(", ")));
    }
    Ok(text)
}
