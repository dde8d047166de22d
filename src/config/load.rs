//! From YAML or JSON text to [`RepoConfig`], with Feast's defaults
//! (`feast/repo_config.py::RepoConfig`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::locate::resolve;
use super::section::Section;
use super::settings::{MaterializationConfig, ObjectStoreConfig, RegistryConfig, RepoConfig};
use super::{auth, feature_server, online, variables};
use crate::error::{Error, ErrorKind, Result};

/// Top-level keys that Feast knows. Those that feastrs does not read are for Feast.
const KNOWN_KEYS: &[&str] = &[
    "project",
    "project_description",
    "provider",
    "registry",
    "online_store",
    "offline_store",
    "batch_engine",
    "auth",
    "feature_server",
    "embedding_model",
    "flags",
    "repo_path",
    "entity_key_serialization_version",
    "coerce_tz_aware",
    "materialization",
    "openlineage",
    "mlflow",
    "data_quality_monitoring",
];

const REGISTRY_KEYS: &[&str] = &[
    "registry_type",
    "registry_store_type",
    "path",
    "cache_ttl_seconds",
    "cache_mode",
    "s3_additional_kwargs",
    "purge_feast_metadata",
    "enable_online_feature_view_versioning",
    "serve_features_while_materializing",
    "mcp",
];

const MATERIALIZATION_KEYS: &[&str] =
    &["pull_latest_features", "online_write_batch_size", "max_memory_mb", "on_null_key"];

/// The default of `materialization.max_memory_mb`.
const DEFAULT_MAX_MEMORY_MB: u64 = 256;

impl RepoConfig {
    /// Reads `yaml_file` for the repository at `repo_path`, against which relative paths are
    /// resolved. [`super::locate`] finds both.
    pub fn load(repo_path: &Path, yaml_file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(yaml_file).map_err(|error| {
            let advice = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "is not there; run from the feature repository, or give its folder as \
                     repo_path or the file as fs_yaml_file"
                }
                _ => "can't be read",
            };
            let message = format!("the configuration file '{}' {advice}", yaml_file.display());
            Error::new(ErrorKind::InvalidConfig, message).with_source(error)
        })?;
        Self::from_yaml_text(&text, repo_path)
            .map_err(|error| error.context(format!("'{}'", yaml_file.display())))
    }

    /// Reads the text of a `feature_store.yaml`, with environment variables expanded.
    pub fn from_yaml_text(text: &str, repo_path: &Path) -> Result<Self> {
        let (text, unset) = variables::expand(text, &|name| std::env::var(name).ok());
        let value = parse_yaml(&text)?;
        variables::find_unset(&value, &unset)?;
        Self::from_value(&value, Some(repo_path))
    }

    /// Reads a mapping that was given from a program, as JSON text. Nothing is expanded.
    /// `repo_path`: `None` takes the mapping's own `repo_path`, else the working directory.
    pub fn from_json(text: &str, repo_path: Option<&Path>) -> Result<Self> {
        let value = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Error::new(ErrorKind::InvalidConfig, format!("config is not valid JSON at {place}"))
        })?;
        Self::from_value(&value, repo_path)
    }

    /// Reads a parsed mapping. `repo_path` as for [`RepoConfig::from_json`].
    pub fn from_value(value: &Value, repo_path: Option<&Path>) -> Result<Self> {
        let Value::Object(entries) = value else {
            let message = "the configuration must be a mapping with at least project and registry";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        };
        let top = Section::new("", entries);
        let repo_path = match repo_path {
            Some(path) => Some(path.to_path_buf()),
            None => top.text("repo_path")?.map(PathBuf::from),
        };
        let (online_store, serving) =
            online::read(entries.get("online_store"), repo_path.as_deref())?;
        let mut warnings = unknown_keys(&top);
        Ok(RepoConfig {
            project: project_name(&top)?,
            provider: top.text("provider")?.unwrap_or("local").to_owned(),
            registry: registry(&top, repo_path.as_deref())?,
            online_store,
            serving,
            offline_store_type: type_of(&top, "offline_store", "dask")?,
            object_stores: object_stores(&top)?,
            batch_engine_type: type_of(&top, "batch_engine", "local")?,
            entity_key_serialization_version: key_version(&top)?,
            materialization: materialization(&top)?,
            auth: auth::read(&top)?,
            metrics: feature_server::read(&top)?,
            audit: feature_server::audit(&top)?,
            offline_batching: feature_server::offline_batching(&top, &mut warnings)?,
            warnings,
            repo_path,
        })
    }
}

/// The error gives the place only: the parser's own message could quote a password.
fn parse_yaml(text: &str) -> Result<Value> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = match error.location() {
            Some(at) => format!(" at line {}, column {}", at.line(), at.column()),
            None => String::new(),
        };
        Error::new(
            ErrorKind::InvalidConfig,
            format!("not valid YAML{place}; look at the indentation and quotes there"),
        )
    })
}

/// Feast's rules (`feast/repo_operations.py::is_valid_name`). It refuses hyphens for every
/// online store, whatever its message says.
fn project_name(top: &Section<'_>) -> Result<String> {
    let name = top.text("project")?.ok_or_else(|| {
        Error::new(ErrorKind::InvalidConfig, "project is missing; every repository has a name")
    })?;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if name.starts_with('_') || !name.chars().all(is_word) {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "project '{name}' may only have letters, digits and underscores, and can't \
                 begin with an underscore"
            ),
        ));
    }
    Ok(name.to_owned())
}

fn registry(top: &Section<'_>, repo_path: Option<&Path>) -> Result<RegistryConfig> {
    let from_path;
    let entries = match top.get("registry") {
        Some(Value::String(path)) => {
            from_path = Map::from_iter([("path".to_owned(), Value::String(path.clone()))]);
            &from_path
        }
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(top.wrong("registry", "a path or a mapping with a path")),
        None => {
            let message = "registry is not set; give the path that feast apply writes to";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
    };
    let section = Section::new("registry", entries);
    let registry_type = registry_type(&section)?;
    let mut path = section.text("path")?.unwrap_or_default().to_owned();
    if registry_type == "file" {
        section.require_known(REGISTRY_KEYS)?;
        if path.is_empty() {
            return Err(section.wrong("path", "given: the file that feast apply writes"));
        }
        if !path.contains("://") {
            path = resolve(repo_path, &path).to_string_lossy().into_owned();
        }
    }
    Ok(RegistryConfig {
        registry_type,
        path,
        cache_ttl_seconds: section.number("cache_ttl_seconds", 0)?.unwrap_or(600),
        watches_file: section.choice("cache_mode", &["sync", "thread"])? == 0,
        has_s3_arguments: section.get("s3_additional_kwargs").is_some(),
        enable_online_feature_view_versioning: section
            .flag("enable_online_feature_view_versioning", false)?,
        serve_features_while_materializing: section
            .flag("serve_features_while_materializing", false)?,
    })
}

/// `registry_type`, or the class of a registry store other than Feast's file store, which
/// makes it a registry of another type to us.
fn registry_type(section: &Section<'_>) -> Result<String> {
    let store = section.text("registry_store_type")?;
    let is_file_store = |name: &str| name.rsplit('.').next() == Some("FileRegistryStore");
    Ok(match store {
        Some(store) if !is_file_store(store) => store.to_owned(),
        _ => section.text("registry_type")?.unwrap_or("file").to_owned(),
    })
}

/// The `type` of a section that is a name or a mapping.
fn type_of(top: &Section<'_>, key: &str, default: &str) -> Result<String> {
    match top.get(key) {
        None => Ok(default.to_owned()),
        Some(Value::String(name)) => Ok(name.clone()),
        Some(Value::Object(entries)) => {
            let section = Section::new(key, entries);
            Ok(section.text("type")?.unwrap_or(default).to_owned())
        }
        Some(_) => Err(top.wrong(key, "the name of a type or a mapping with a type")),
    }
}

/// The offline store may be any of Feast's, with settings that are not ours to judge.
fn object_stores(top: &Section<'_>) -> Result<ObjectStoreConfig> {
    let Some(Value::Object(entries)) = top.get("offline_store") else {
        return Ok(ObjectStoreConfig::default());
    };
    let section = Section::new("offline_store", entries);
    Ok(ObjectStoreConfig {
        s3_region: section.text("s3_region")?.map(str::to_owned),
        s3_profile: section.text("s3_profile")?.map(str::to_owned),
        is_anonymous: section.flag("anonymous", false)?,
    })
}

fn key_version(top: &Section<'_>) -> Result<u8> {
    match top.number("entity_key_serialization_version", 0)? {
        None | Some(3) => Ok(3),
        Some(2) => Ok(2),
        Some(other) => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("entity_key_serialization_version is {other}; supported are 2 and 3"),
        )),
    }
}

fn materialization(top: &Section<'_>) -> Result<MaterializationConfig> {
    let empty = Map::new();
    let entries = match top.get("materialization") {
        None => &empty,
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(top.wrong("materialization", "a mapping")),
    };
    let section = Section::new("materialization", entries);
    section.require_known(MATERIALIZATION_KEYS)?;
    let batch_size = section.number("online_write_batch_size", 1)?;
    Ok(MaterializationConfig {
        pull_latest_features: section.flag("pull_latest_features", false)?,
        online_write_batch_size: batch_size.and_then(|size| usize::try_from(size).ok()),
        max_memory_mb: section.number("max_memory_mb", 1)?.unwrap_or(DEFAULT_MAX_MEMORY_MB),
        skip_null_keys: section.choice("on_null_key", &["error", "skip"])? == 1,
    })
}

fn unknown_keys(top: &Section<'_>) -> Vec<String> {
    top.keys()
        .filter(|key| !KNOWN_KEYS.contains(key))
        .map(|key| format!("feature_store.yaml: '{key}' is not a setting of Feast; it is ignored"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OnlineStoreConfig, ReadCommand, RedisType};

    fn parse(text: &str) -> Result<RepoConfig> {
        RepoConfig::from_yaml_text(text, Path::new("/repo"))
    }

    fn message(text: &str) -> String {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        error.to_string()
    }

    #[test]
    fn the_least_configuration_has_feasts_defaults() {
        let config = parse("project: p\nregistry: data/registry.db\n").unwrap();

        assert_eq!(config.project, "p");
        assert_eq!(config.provider, "local");
        assert_eq!(config.registry.path, "/repo/data/registry.db");
        assert_eq!(config.registry.cache_ttl_seconds, 600);
        assert_eq!(config.entity_key_serialization_version, 3);
        assert_eq!(config.offline_store_type, "dask");
        assert_eq!(config.batch_engine_type, "local");
        assert_eq!(config.materialization.max_memory_mb, 256);
        assert!(config.warnings.is_empty());
        let OnlineStoreConfig::Sqlite(sqlite) = config.online_store else { panic!("not sqlite") };
        assert_eq!(sqlite.path, Path::new("/repo/data/online.db"));
    }

    #[test]
    fn a_redis_store_is_read_with_settings_of_both() {
        let config = parse(
            "project: p\nregistry: {path: /r.db, cache_ttl_seconds: 5, s3_additional_kwargs: {a: b}}\n\
             entity_key_serialization_version: 2\nmystery: 1\n\
             online_store:\n  type: feastrs.feast.RedisOnlineStore\n  redis_type: redis_cluster\n  \
             connection_string: host:1,password=secret\n  key_ttl_seconds: \"60\"\n  \
             online_statuses: feast\n  enforce_online_ttl: true\n  equal_timestamps: skip\n  \
             read_command: hmget\n\
             offline_store: {type: file, s3_region: eu-west-1, anonymous: true}\n\
             materialization: {on_null_key: skip, max_memory_mb: 64, online_write_batch_size: 10}\n",
        )
        .unwrap();

        assert!(!format!("{config:?}").contains("secret"));
        assert!(config.warnings[0].contains("'mystery'"));
        assert!(config.serving.feast_statuses && config.serving.enforce_online_ttl);
        assert!(config.materialization.skip_null_keys);
        assert_eq!(config.object_stores.s3_region.as_deref(), Some("eu-west-1"));
        assert_eq!(config.object_stores.s3_profile, None);
        assert!(config.object_stores.is_anonymous);
        let OnlineStoreConfig::Redis(redis) = config.online_store else { panic!("not redis") };
        assert_eq!(redis.redis_type, RedisType::Cluster);
        assert_eq!(redis.connection_string.reveal(), "host:1,password=secret");
        assert_eq!(redis.key_ttl_seconds, Some(60));
        assert_eq!(redis.read_command, ReadCommand::Hmget);
        assert!(redis.equal_timestamps_skip && redis.full_scan_for_deletion);
    }

    #[test]
    fn a_key_lives_no_longer_than_redis_can_count() {
        let yaml = |seconds: &str| {
            format!(
                "project: p\nregistry: r.db\nonline_store: {{type: redis, key_ttl_seconds: {seconds}}}"
            )
        };

        assert!(parse(&yaml("9000000000000000")).is_ok());
        let error = parse(&yaml("9000000000000001")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("online_store.key_ttl_seconds must be"), "{error}");
        assert!(error.to_string().contains("not 9000000000000001"), "{error}");
    }

    #[test]
    fn stores_that_are_not_ours_go_through_feast() {
        for (yaml, expected) in [
            ("online_store: dynamodb", Some("dynamodb")),
            ("online_store: {type: x.MyOnlineStore, any: 1}", Some("x.MyOnlineStore")),
            ("online_store: {vector_enabled: true}", Some("sqlite with vector_enabled: true")),
            ("online_store: null", None),
            ("online_store: None", None),
        ] {
            let config = parse(&format!("project: p\nregistry: r.db\n{yaml}\n")).unwrap();
            match (config.online_store, expected) {
                (OnlineStoreConfig::Other(name), Some(expected)) => assert_eq!(name, expected),
                (OnlineStoreConfig::Disabled, None) => {}
                (other, _) => panic!("{yaml}: {other:?}"),
            }
        }
    }

    #[test]
    fn unsupported_settings_are_named_with_what_is_supported() {
        let head = "project: p\nregistry: r.db\n";
        let error = message(&format!("{head}online_store: {{type: redis, pasword: hunter2}}\n"));
        assert!(error.contains("online_store.pasword") && error.contains("connection_string"));
        assert!(!error.contains("hunter2"));

        let error = message(&format!("{head}materialization: {{max_memory: 1}}\n"));
        assert!(error.contains("materialization.max_memory") && error.contains("max_memory_mb"));

        let error = message("project: p\nregistry: {path: r.db, cache_ttl: 1}\n");
        assert!(error.contains("registry.cache_ttl:") && error.contains("cache_ttl_seconds"));

        let error = message(&format!("{head}entity_key_serialization_version: 1\n"));
        assert!(error.contains("2 and 3"));

        let error = message(&format!("{head}online_store: {{read_command: auto}}\n"));
        assert!(error.contains("online_store.read_command"));
    }

    #[test]
    fn project_and_registry_are_required_and_checked() {
        assert!(message("registry: r.db\n").contains("project"));
        assert!(message("project: p\n").contains("registry is not set"));
        assert!(message("project: _p\nregistry: r.db\n").contains("'_p'"));
        assert!(message("project: a-b\nregistry: r.db\n").contains("'a-b'"));
        assert!(message("project: [1]\nregistry: r.db\n").contains("project must be text"));
        assert!(message("").contains("mapping"));
    }

    #[test]
    fn broken_yaml_gives_the_place_and_no_secret() {
        let error = message("project: p\nonline_store:\n  connection_string: \"hunter2\n");
        assert!(error.contains("line "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");

        let error = message("project: p\nonline_store:\n  a: b: hunter2\n");
        assert!(error.contains("line 3"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_unset_variable_is_an_error_except_in_a_comment() {
        let error = message("project: p\nregistry: ${FEASTRS_TEST_UNSET}\n");
        assert!(error.contains("'FEASTRS_TEST_UNSET'") && error.contains("registry"), "{error}");

        let config = parse(
            "# $FEASTRS_TEST_UNSET\nproject: p\nregistry: ${FEASTRS_TEST_UNSET:\"r.db\"} # $NOPE_X\n",
        );
        assert_eq!(config.unwrap().registry.path, "/repo/r.db");
    }

    #[test]
    fn a_missing_file_is_named_with_the_way_out() {
        let error = RepoConfig::load(Path::new("/none"), Path::new("/none/feature_store.yaml"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("'/none/feature_store.yaml'"));
        assert!(error.to_string().contains("repo_path"));
    }

    #[test]
    fn a_mapping_from_a_program_may_bring_its_repo_path() {
        let text = r#"{"project": "p", "registry": "r.db", "repo_path": "/elsewhere"}"#;
        let config = RepoConfig::from_json(text, None).unwrap();
        assert_eq!(config.registry.path, "/elsewhere/r.db");

        let text = r#"{"project": "p", "registry": {"registry_type": "sql", "path": "db://u:pw@h", "any": 1}}"#;
        let config = RepoConfig::from_json(text, None).unwrap();
        assert_eq!(config.registry.registry_type, "sql");
    }
}
