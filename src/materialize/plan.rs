//! What materializing one view takes: its pinned source, its columns by their names there,
//! its keys' encoding and its name in the store.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};

use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::hash;
use crate::key::{KeyEncoder, KeyVersion, NamedKeyValues};
use crate::offline::{SourceFiles, TimeWindow};
use crate::registry::{DataSource, FeatureView, Field};
use crate::store::{StoredFeature, StoredView};
use crate::value::{PackedBytes, ValueType};

/// One view, ready to be read and written.
pub struct ViewPlan {
    /// The view's name in the registry.
    pub view: String,
    /// The view as the store knows it.
    pub stored: StoredView,
    /// Its files.
    pub source: SourceFiles,
    /// Its rows.
    pub window: TimeWindow,
    /// Its join keys; none for a view without entity.
    pub join_keys: Vec<PlannedColumn>,
    /// Its features, in the order of `stored`.
    pub features: Vec<PlannedColumn>,
    encoder: KeyEncoder,
    /// Join keys, event timestamp and, if there is one, created timestamp: their names in the
    /// source, in this order.
    pub head: Vec<String>,
    /// Whether `head` ends with a created timestamp.
    pub has_created: bool,
}

/// A join key or a feature.
#[derive(Clone, Debug)]
pub struct PlannedColumn {
    /// Its name in the view.
    pub name: String,
    /// Its name in the source.
    pub source_name: String,
    /// Its declared type.
    pub value_type: ValueType,
}

impl ViewPlan {
    /// Finds the view's files and checks that they have what is needed.
    pub fn new(
        view: &FeatureView,
        window: TimeWindow,
        config: &RepoConfig,
        call: &Call<'_>,
    ) -> Result<Self> {
        let Some(source) = &view.batch_source else {
            return Err(Error::new(ErrorKind::NeedsFeast, "has no batch source"));
        };
        let join_keys = if view.is_entityless() {
            Vec::new()
        } else {
            view.entity_columns.iter().map(|field| PlannedColumn::new(field, source)).collect()
        };
        if join_keys.is_empty() && !view.is_entityless() {
            return Err(Error::new(
                ErrorKind::RegistryInvalid,
                "has entities but no join keys in the registry; run `feast apply` again",
            ));
        }
        let features: Vec<PlannedColumn> =
            view.features.iter().map(|field| PlannedColumn::new(field, source)).collect();
        let created = &source.created_timestamp_column;
        let mut head: Vec<String> = join_keys.iter().map(|key| key.source_name.clone()).collect();
        head.push(source.source_name(&source.timestamp_field).to_owned());
        head.extend((!created.is_empty()).then(|| source.source_name(created).to_owned()));
        let plan = ViewPlan {
            view: view.name.clone(),
            stored: stored_view(view, config)?,
            source: SourceFiles::pin_source(source, config, call)?,
            window,
            encoder: key_encoder(join_keys.iter().map(PlannedColumn::typed).collect(), config)?,
            join_keys,
            features,
            head,
            has_created: !created.is_empty(),
        };
        plan.check_columns()?;
        Ok(plan)
    }

    /// The name of the event timestamp column in the source.
    pub fn event_column(&self) -> &str {
        &self.head[self.join_keys.len()]
    }

    /// The name of the created timestamp column in the source.
    pub fn created_column(&self) -> Option<&str> {
        if self.has_created { self.head.last().map(String::as_str) } else { None }
    }

    /// `head` and the features: every column that a row is made of.
    pub fn all_columns(&self) -> Vec<String> {
        let features = self.features.iter().map(|feature| feature.source_name.clone());
        self.head.iter().cloned().chain(features).collect()
    }

    /// The encoded keys of `rows` rows; `columns` are those of the join keys, in the form that
    /// keys are encoded from.
    pub fn encode_keys(&self, columns: &[ArrayRef], rows: usize) -> Result<PackedBytes> {
        if !self.join_keys.is_empty() {
            return self.encoder.encode(columns);
        }
        self.encoder.encode(&[dummy_entity(rows)])
    }

    /// Like [`ViewPlan::encode_keys`], without the bytes in front that are the same in every
    /// key of the view.
    pub fn encode_key_values(&self, columns: &[ArrayRef], rows: usize) -> Result<PackedBytes> {
        if !self.join_keys.is_empty() {
            return self.encoder.encode_values(columns);
        }
        self.encoder.encode_values(&[dummy_entity(rows)])
    }

    /// The join keys of a key of [`ViewPlan::encode_keys`], with their values; none for a view
    /// without entity.
    pub fn decode_key(&self, key: &[u8]) -> Result<NamedKeyValues> {
        if self.join_keys.is_empty() { Ok(Vec::new()) } else { self.encoder.decode(key) }
    }

    fn check_columns(&self) -> Result<()> {
        for key in &self.join_keys {
            self.source
                .require_column(&key.source_name, &format!("the join key '{}'", key.name))?;
        }
        self.source.require_column(self.event_column(), "the event timestamp")?;
        if let Some(created) = self.created_column() {
            self.source.require_column(created, "the created timestamp")?;
        }
        for feature in &self.features {
            let role = format!("the feature '{}'", feature.name);
            self.source.require_column(&feature.source_name, &role)?;
        }
        Ok(())
    }
}

impl PlannedColumn {
    fn new(field: &Field, source: &DataSource) -> Self {
        PlannedColumn {
            name: field.name.clone(),
            source_name: source.source_name(&field.name).to_owned(),
            value_type: field.value_type,
        }
    }

    fn typed(&self) -> (String, ValueType) {
        (self.name.clone(), self.value_type)
    }
}

/// The key column of a view without entity.
pub(super) fn dummy_entity(rows: usize) -> ArrayRef {
    let values = std::iter::repeat_n(FeatureView::DUMMY_ENTITY_VALUE, rows);
    Arc::new(StringArray::from_iter_values(values))
}

/// Encodes keys of these columns; of the one that stands for none where there are none.
pub(super) fn key_encoder(
    mut keys: Vec<(String, ValueType)>,
    config: &RepoConfig,
) -> Result<KeyEncoder> {
    let version = match config.entity_key_serialization_version {
        2 => KeyVersion::V2,
        _ => KeyVersion::V3,
    };
    if keys.is_empty() {
        keys.push((FeatureView::DUMMY_ENTITY_ID.to_owned(), ValueType::String));
    }
    KeyEncoder::new(version, &keys)
}

/// The view as stores know it. An error if two of its features would share a field.
pub fn stored_view(view: &FeatureView, config: &RepoConfig) -> Result<StoredView> {
    let name = view.stored_name(config.registry.enable_online_feature_view_versioning);
    let features = view.features.iter().map(|feature| feature.name.as_str());
    let features = stored_features(&view.name, &name, features)?;
    let timestamp_field = format!("_ts:{name}").into_bytes();
    // A ttl of zero is none, as in Feast.
    let ttl_micros = view.ttl.filter(|ttl| *ttl > 0);
    Ok(StoredView { name, features, timestamp_field, ttl_micros })
}

/// The features of `view`, which is stored under the name `stored_name`. An error if two of them
/// would share a field.
pub fn stored_features<'a>(
    view: &str,
    stored_name: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<StoredFeature>> {
    let mut taken: HashMap<[u8; 4], &str> = HashMap::new();
    let stored = |name: &'a str| {
        let field = hash::field_name(stored_name, name);
        match taken.insert(field, name) {
            None => Ok(StoredFeature { name: name.to_owned(), field }),
            Some(other) => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "features '{other}' and '{name}' of view '{view}' have the same 32-bit field \
                     hash, so a store can't tell them apart; rename one of them"
                ),
            )),
        }
    };
    names.into_iter().map(stored).collect()
}
