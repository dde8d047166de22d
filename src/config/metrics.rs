//! The section `feature_server: metrics`
//! (`feast/infra/feature_servers/base_config.py::MetricsConfig`). The rest of `feature_server`
//! is for those who use it.

use serde_json::{Map, Value};

use super::section::Section;
use super::settings::MetricsConfig;
use crate::error::Result;

const KEYS: &[&str] = &[
    "enabled",
    "resource",
    "request",
    "online_features",
    "push",
    "materialization",
    "freshness",
    "offline_features",
    "audit_logging",
    "feature_count_bins",
];

/// The metrics of the section `feature_server` of `top`.
pub(super) fn read(top: &Section<'_>) -> Result<MetricsConfig> {
    let Some(entries) = mapping(top, "feature_server")? else {
        return Ok(MetricsConfig::default());
    };
    let server = Section::new("feature_server", entries);
    let Some(entries) = mapping(&server, "metrics")? else {
        return Ok(MetricsConfig::default());
    };
    let section = Section::new("feature_server.metrics", entries);
    section.require_known(KEYS)?;
    Ok(MetricsConfig {
        is_enabled: section.flag("enabled", false)?,
        resource: section.flag("resource", true)?,
        request: section.flag("request", true)?,
        online_features: section.flag("online_features", true)?,
        push: section.flag("push", true)?,
        materialization: section.flag("materialization", true)?,
        freshness: section.flag("freshness", true)?,
        feature_count_bins: bins(&section)?,
    })
}

fn mapping<'a>(section: &Section<'a>, key: &str) -> Result<Option<&'a Map<String, Value>>> {
    match section.get(key) {
        None => Ok(None),
        Some(Value::Object(entries)) => Ok(Some(entries)),
        Some(_) => Err(section.wrong(key, "a mapping")),
    }
}

fn bins(section: &Section<'_>) -> Result<Vec<u64>> {
    const KEY: &str = "feature_count_bins";
    let wrong = || section.wrong(KEY, "a list of whole numbers above zero, each above the last");
    let bins = match section.get(KEY) {
        None => return Ok(MetricsConfig::default().feature_count_bins),
        Some(Value::Array(bins)) => bins.iter().map(Value::as_u64).collect::<Option<Vec<_>>>(),
        Some(_) => None,
    };
    let bins = bins.ok_or_else(wrong)?;
    let is_growing = bins.first() != Some(&0) && bins.is_sorted_by(|lower, upper| lower < upper);
    if is_growing { Ok(bins) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::RepoConfig;

    fn parse(metrics: &str) -> Result<MetricsConfig> {
        let yaml = format!("project: p\nregistry: r.db\nfeature_server: {{{metrics}}}\n");
        RepoConfig::from_yaml_text(&yaml, Path::new("/repo")).map(|config| config.metrics)
    }

    #[test]
    fn categories_and_bins_are_read() {
        assert_eq!(parse("type: local").unwrap(), MetricsConfig::default());
        let metrics = parse("metrics: {enabled: true, push: false, feature_count_bins: [1, 2]}");
        let expected = MetricsConfig {
            is_enabled: true,
            push: false,
            feature_count_bins: vec![1, 2],
            ..MetricsConfig::default()
        };
        assert_eq!(metrics.unwrap(), expected);
    }

    #[test]
    fn bins_grow() {
        for bins in ["[0, 1]", "[2, 2]", "[3, 1]", "[-1]", "x"] {
            let error = parse(&format!("metrics: {{feature_count_bins: {bins}}}")).unwrap_err();
            assert!(error.to_string().contains("feature_server.metrics.feature_count_bins"));
        }
    }
}
