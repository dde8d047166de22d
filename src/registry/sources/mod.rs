//! Where a registry's bytes are: read whole, replaced whole.
//!
//! `file`: a local file. `object`: an object of S3 or Google Cloud Storage. [`RegistrySource`]
//! is what the cache knows of them.

pub mod file;
pub mod object;

use self::file::{FileStamp, RegistryFile};
use self::object::RegistryObject;
use super::splice::Change;
use crate::call::Call;
use crate::config::RegistryConfig;
use crate::error::{Error, ErrorKind, Result};

/// Where a registry is.
#[derive(Debug)]
pub enum RegistrySource {
    /// In a local file.
    File(RegistryFile),
    /// In an object store.
    Object(RegistryObject),
    /// With somebody who reads it himself, and says when it has changed.
    Given,
}

/// What tells one state of a registry from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Of a file.
    File(FileStamp),
    /// The ETag of an object; `None`: the store gives none.
    Object(Option<String>),
    /// Nothing does.
    Given,
}

impl RegistrySource {
    /// The place that `config` names. Registries elsewhere than in files and objects go
    /// through Feast.
    pub fn open(config: &RegistryConfig) -> Result<Self> {
        let needs_feast = |what: String| {
            let message =
                format!("{what} is read through Feast; feastrs reads local files, s3:// and gs://");
            Error::new(ErrorKind::NeedsFeast, message)
        };
        if config.registry_type != "file" {
            return Err(needs_feast(format!("a registry of type '{}'", config.registry_type)));
        }
        match config.path.split_once("://") {
            None => Ok(RegistrySource::File(RegistryFile::new(&config.path))),
            Some(("file", path)) => Ok(RegistrySource::File(RegistryFile::new(path))),
            Some(("s3" | "gs", _)) => RegistryObject::open(config).map(RegistrySource::Object),
            Some((scheme, _)) => Err(needs_feast(format!("a registry at {scheme}://"))),
        }
    }

    /// The bytes of the registry and their stamp; `None`: they are those of `known` still,
    /// where that can be asked without reading them.
    pub fn read(&self, call: Call<'_>, known: Option<&Stamp>) -> Result<Option<(Vec<u8>, Stamp)>> {
        match self {
            RegistrySource::File(file) => {
                let (bytes, stamp) = file.read()?;
                Ok(Some((bytes, Stamp::File(stamp))))
            }
            RegistrySource::Object(object) => {
                let etag = match known {
                    Some(Stamp::Object(etag)) => etag.clone(),
                    _ => None,
                };
                let read = object.read(call, etag)?;
                Ok(read.map(|(bytes, etag)| (bytes, Stamp::Object(etag))))
            }
            RegistrySource::Given => Ok(None),
        }
    }

    /// Whether it can be seen at once that the registry is not that of `known` any more.
    pub fn is_changed(&self, known: &Stamp) -> bool {
        match self {
            RegistrySource::File(file) => {
                file.stamp().is_some_and(|stamp| Stamp::File(stamp) != *known)
            }
            RegistrySource::Object(_) | RegistrySource::Given => false,
        }
    }

    /// Makes `change` in the registry.
    pub fn update(&self, call: Call<'_>, change: &Change) -> Result<()> {
        match self {
            RegistrySource::File(file) => file.update(call, change).map(drop),
            RegistrySource::Object(object) => object.update(call, change),
            RegistrySource::Given => {
                let message = "the registry is read by Feast, which has to write it, too";
                Err(Error::new(ErrorKind::NeedsFeast, message))
            }
        }
    }

    /// `error` with the place of the registry.
    pub(super) fn named(&self, error: Error) -> Error {
        match self {
            RegistrySource::File(file) => file.named(error),
            RegistrySource::Object(object) => object.named(error),
            RegistrySource::Given => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(registry_type: &str, path: &str) -> RegistryConfig {
        RegistryConfig {
            registry_type: registry_type.to_owned(),
            path: path.to_owned(),
            cache_ttl_seconds: 0,
            watches_file: true,
            has_s3_arguments: false,
            enable_online_feature_view_versioning: false,
            serve_features_while_materializing: false,
        }
    }

    #[test]
    fn the_address_says_where_it_is() {
        let open = |path: &str| RegistrySource::open(&config("file", path)).unwrap();

        assert!(
            matches!(open("file:///r.db"), RegistrySource::File(f) if f.path().ends_with("r.db"))
        );
        for url in ["s3://bucket/a/r.db", "gs://bucket/a/r.db"] {
            assert!(matches!(open(url), RegistrySource::Object(o) if o.url() == url));
        }
    }

    #[test]
    fn what_is_not_ours_is_feasts_and_a_broken_address_is_named() {
        let refuse =
            |kind: &str, path: &str| RegistrySource::open(&config(kind, path)).unwrap_err();

        assert_eq!(refuse("file", "hdfs://b/r.db").kind(), ErrorKind::NeedsFeast);
        let error = refuse("sql", "postgresql://u:secret@h");
        assert_eq!(error.kind(), ErrorKind::NeedsFeast);
        assert!(!error.to_string().contains("secret"));
        for url in ["s3://bucket", "s3://bucket/", "gs:///key"] {
            let error = refuse("file", url);
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.to_string().contains(url), "{error}");
        }
    }
}
