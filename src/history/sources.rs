//! The files that a plan reads, pinned, and what their columns are.

use std::collections::HashMap;

use arrow_schema::{DataType, Field, TimeUnit};

use super::labels::Labels;
use super::plan::{HistoryPlan, HistoryView};
use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::SourceFiles;
use crate::offline::asof::KeyForm;
use crate::offline::ticks::{Ticks, finest};

/// The sources of a plan, each once, and for each view which of them is its.
pub struct Sources {
    pub(super) files: Vec<SourceFiles>,
    of_view: Vec<usize>,
}

impl Sources {
    /// Pins the files of every view, and checks that they have the columns that are needed.
    pub(super) fn pin(plan: &HistoryPlan, config: &RepoConfig, call: &Call<'_>) -> Result<Self> {
        let mut known: HashMap<(&str, &str), usize> = HashMap::new();
        let mut sources = Sources { files: Vec::new(), of_view: Vec::new() };
        for view in &plan.views {
            let address = (view.source.path.as_str(), view.source.s3_endpoint_override.as_str());
            let source = match known.get(&address) {
                Some(source) => *source,
                None => {
                    let pinned = SourceFiles::pin_source(&view.source, config, call);
                    sources.files.push(pinned.map_err(|error| in_view(view, error))?);
                    known.insert(address, sources.files.len() - 1);
                    sources.files.len() - 1
                }
            };
            sources.of_view.push(source);
            check_columns(view, &sources.files[source]).map_err(|error| in_view(view, error))?;
        }
        Ok(sources)
    }

    /// The source of the view with that index.
    pub(super) fn of(&self, view: usize) -> &SourceFiles {
        &self.files[self.of_view[view]]
    }
}

pub(super) fn in_view(view: &HistoryView, error: Error) -> Error {
    error.context(format_args!("feature view '{}'", view.name))
}

fn check_columns(view: &HistoryView, source: &SourceFiles) -> Result<()> {
    for key in &view.join_keys {
        source
            .require_column(&key.source_column, &format!("the join key '{}'", key.label_column))?;
    }
    source.require_column(&view.event_column, "the event timestamp")?;
    if let Some(created) = &view.created_column {
        source.require_column(created, "the created timestamp")?;
    }
    for feature in &view.features {
        let role = format!("the feature '{}'", feature.name);
        source.require_column(&feature.source_column, &role)?;
    }
    Ok(())
}

/// How the view's keys are compared with those of the labels.
pub(super) fn key_forms(
    view: &HistoryView,
    source: &SourceFiles,
    labels: &Labels,
) -> Result<Vec<KeyForm>> {
    let form = |key: &super::plan::JoinKey| {
        let given = labels.column(&key.label_column)?.data_type();
        let mut form = None;
        for (file, found) in types_of(source, &key.source_column) {
            let common = KeyForm::common(given, &found).ok_or_else(|| {
                Error::new(
                    ErrorKind::TypeMismatch,
                    format!(
                        "join key '{}' has type {given} in the entity frame, and column '{}' of \
                         file '{file}' has type {found}: no value of one equals any of the other; \
                         convert the column of the entity frame",
                        key.label_column, key.source_column
                    ),
                )
            })?;
            if form.is_some_and(|form| form != common) {
                let message = format!(
                    "files disagree on the type of column '{}': one has {found}",
                    key.source_column
                );
                return Err(Error::new(ErrorKind::SourceInvalid, message));
            }
            form = Some(common);
        }
        form.ok_or_else(|| Error::new(ErrorKind::SourceNotFound, "the source has no files"))
    };
    view.join_keys.iter().map(form).collect()
}

/// The unit in which all of the column's times can be told.
pub(super) fn time_unit(source: &SourceFiles, column: &str) -> Result<TimeUnit> {
    let mut unit = TimeUnit::Second;
    for (file, found) in types_of(source, column) {
        let own = Ticks::unit_of(&found).ok_or_else(|| {
            Error::new(
                ErrorKind::SourceInvalid,
                format!(
                    "timestamp column '{column}' of file '{file}' has type {found}; it must be a \
                     timestamp or a date (convert text to timestamps when the file is written)"
                ),
            )
        })?;
        unit = finest(unit, own);
    }
    Ok(unit)
}

/// The field of a feature as it is given out: the source's type, which all files share, or the
/// one that their types are parts of.
pub(super) fn feature_field(source: &SourceFiles, column: &str, name: &str) -> Result<Field> {
    let mut data_type: Option<DataType> = None;
    for (file, found) in types_of(source, column) {
        data_type = Some(match data_type {
            None => found,
            Some(known) => wider(&known, &found).ok_or_else(|| {
                let message =
                    format!("column '{column}' has type {known}, and in file '{file}' {found}");
                Error::new(ErrorKind::SourceInvalid, message)
            })?,
        });
    }
    let data_type = data_type.unwrap_or(DataType::Null);
    // An extension type, such as UUID, is said in the field's metadata.
    let metadata = source.files().iter().find_map(|file| {
        let (_, field) = file.metadata.schema().column_with_name(column)?;
        let kept = field.metadata().iter().filter(|(key, _)| key.starts_with("ARROW:extension"));
        Some(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
    });
    Ok(Field::new(name, data_type, true).with_metadata(metadata.unwrap_or_default()))
}

fn wider(one: &DataType, other: &DataType) -> Option<DataType> {
    let is_text = |found: &DataType| {
        matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    };
    Some(match (one, other) {
        (one, other) if one == other => one.clone(),
        (DataType::Null, known) | (known, DataType::Null) => known.clone(),
        (one, other) if one.is_integer() && other.is_integer() => DataType::Int64,
        (one, other) if one.is_numeric() && other.is_numeric() => DataType::Float64,
        (one, other) if is_text(one) && is_text(other) => DataType::LargeUtf8,
        (DataType::Timestamp(a, zone), DataType::Timestamp(b, _)) => {
            DataType::Timestamp(finest(*a, *b), zone.clone())
        }
        _ => return None,
    })
}

/// The column's type in each file.
fn types_of<'a>(
    source: &'a SourceFiles,
    column: &'a str,
) -> impl Iterator<Item = (&'a str, DataType)> {
    let files = source.files().iter();
    files.filter_map(move |file| Some((file.name.as_str(), file.column_type(column)?)))
}
