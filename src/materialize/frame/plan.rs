//! What writing a frame to a view takes: which columns, what they mean, how keys are encoded.

use std::collections::HashMap;

use arrow_array::ArrayRef;

use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyEncoder;
use crate::materialize::plan::{dummy_entity, key_encoder, stored_view};
use crate::registry::FeatureView;
use crate::store::StoredView;
use crate::value::{PackedBytes, ValueType};

/// A view, ready for frames.
pub struct FramePlan {
    /// The view's name in the registry.
    pub view: String,
    /// The view as the store knows it.
    pub stored: StoredView,
    // Join keys, event timestamp, created timestamp if there is one, features.
    columns: Vec<FrameColumn>,
    join_keys: usize,
    has_created: bool,
    encoder: KeyEncoder,
}

/// A column that a frame must have.
#[derive(Clone, Debug)]
pub struct FrameColumn {
    /// Its name in the view.
    pub name: String,
    /// Its name in the view's source, which a frame may have instead.
    pub source_name: String,
    /// Its declared type; `None` for a timestamp column.
    pub value_type: Option<ValueType>,
}

impl FramePlan {
    /// For a view with a batch source, whose names of timestamp columns are those of frames too.
    pub fn new(view: &FeatureView, config: &RepoConfig) -> Result<Self> {
        let Some(source) = &view.batch_source else {
            return Err(Error::new(ErrorKind::NeedsFeast, "has no batch source"));
        };
        let column = |name: &str, value_type| FrameColumn {
            name: name.to_owned(),
            source_name: source.source_name(name).to_owned(),
            value_type,
        };
        let mut columns = Vec::new();
        let mut keys = Vec::new();
        if !view.is_entityless() {
            for key in &view.entity_columns {
                keys.push((key.name.clone(), key.value_type));
                columns.push(column(&key.name, Some(key.value_type)));
            }
        }
        let join_keys = columns.len();
        columns.push(column(&source.timestamp_field, None));
        let created = &source.created_timestamp_column;
        columns.extend((!created.is_empty()).then(|| column(created, None)));
        let features = view.features.iter();
        columns.extend(features.map(|field| column(&field.name, Some(field.value_type))));
        Ok(FramePlan {
            view: view.name.clone(),
            stored: stored_view(view, config)?,
            columns,
            join_keys,
            has_created: !created.is_empty(),
            encoder: key_encoder(keys, config)?,
        })
    }

    /// Every column that a frame must have, in the order of [`FrameBatch::columns`].
    ///
    /// [`FrameBatch::columns`]: super::FrameBatch::columns
    pub fn columns(&self) -> &[FrameColumn] {
        &self.columns
    }

    /// Where each column is among `names`; others are nobody's. A column that is not there is
    /// an error, and so is one that is there twice.
    pub fn locate(&self, names: &[&str]) -> Result<Vec<usize>> {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::with_capacity(names.len());
        for (place, name) in names.iter().enumerate() {
            places.entry(name).or_default().push(place);
        }
        let locate = |column: &FrameColumn| {
            let found = places.get(column.name.as_str());
            match found.or_else(|| places.get(column.source_name.as_str())).map(Vec::as_slice) {
                Some([place]) => Ok(*place),
                Some(_) => Err(self.twice(&column.name)),
                None => Err(self.missing(column, names)),
            }
        };
        self.columns.iter().map(locate).collect()
    }

    pub(super) fn keys(&self) -> &[FrameColumn] {
        &self.columns[..self.join_keys]
    }

    pub(super) fn event_column(&self) -> usize {
        self.join_keys
    }

    pub(super) fn created_column(&self) -> Option<usize> {
        self.has_created.then_some(self.join_keys + 1)
    }

    pub(super) fn first_feature(&self) -> usize {
        self.join_keys + 1 + usize::from(self.has_created)
    }

    /// The encoded keys of `rows` rows; `columns` are those of the join keys.
    pub(super) fn encode_keys(&self, columns: &[ArrayRef], rows: usize) -> Result<PackedBytes> {
        if self.join_keys > 0 {
            return self.encoder.encode(columns);
        }
        self.encoder.encode(&[dummy_entity(rows)])
    }

    fn role(&self, name: &str) -> String {
        match self.columns.iter().position(|column| column.name == name) {
            Some(place) if place < self.join_keys => format!("the join key '{name}'"),
            Some(place) if place == self.event_column() => {
                format!("the event timestamp '{name}'")
            }
            Some(place) if Some(place) == self.created_column() => {
                format!("the created timestamp '{name}'")
            }
            _ => format!("the feature '{name}'"),
        }
    }

    #[cold]
    fn missing(&self, column: &FrameColumn, names: &[&str]) -> Error {
        Error::new(
            ErrorKind::ColumnMissing,
            format!(
                "view '{}': the frame has no column for {}; its columns are {}",
                self.view,
                self.role(&column.name),
                names.join(", ")
            ),
        )
    }

    #[cold]
    fn twice(&self, name: &str) -> Error {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("view '{}': the frame has more than one column '{name}'", self.view),
        )
    }
}
