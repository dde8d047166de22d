//! The section `feature_server` (`feast/infra/feature_servers/base_config.py`): metrics, audit log
//! and batches for the offline store. The rest of it is for those who use it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::section::Section;
use super::settings::{AuditConfig, AuditSink, MetricsConfig, OfflineBatching};
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

const AUDIT_KEYS: &[&str] = &["enabled", "sink", "file_path", "log_successful_reads"];

/// The batches of the section `feature_server` of `top`; `None`: rows are not gathered. What
/// makes no sense goes to `warnings`, as in Feast, which does without then.
pub(super) fn offline_batching(
    top: &Section<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<OfflineBatching>> {
    let Some(entries) = mapping(top, "feature_server")? else { return Ok(None) };
    let server = Section::new("feature_server", entries);
    if !server.flag("offline_push_batching_enabled", false)? {
        return Ok(None);
    }
    let number = |key| server.get(key).and_then(Value::as_u64).filter(|number| *number > 0);
    let rows = number("offline_push_batching_batch_size");
    let seconds = number("offline_push_batching_batch_interval_seconds");
    let (Some(rows), Some(seconds)) = (rows, seconds) else {
        warnings.push(
            "feature_server.offline_push_batching_enabled is set, but \
             offline_push_batching_batch_size and offline_push_batching_batch_interval_seconds \
             are not both whole numbers above zero: pushes are written offline one by one"
                .to_owned(),
        );
        return Ok(None);
    };
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    Ok(Some(OfflineBatching { rows, interval: Duration::from_secs(seconds) }))
}

/// The audit log of the section `feature_server` of `top`; `None`: there is none.
pub(super) fn audit(top: &Section<'_>) -> Result<Option<AuditConfig>> {
    let Some(entries) = mapping(top, "feature_server")? else { return Ok(None) };
    let Some(entries) = mapping(&Section::new("feature_server", entries), "audit_logging")? else {
        return Ok(None);
    };
    let section = Section::new("feature_server.audit_logging", entries);
    section.require_known(AUDIT_KEYS)?;
    let sink = match section.text("sink")?.unwrap_or("stdout") {
        "stdout" => AuditSink::Stdout,
        "file" => {
            AuditSink::File(PathBuf::from(section.text("file_path")?.unwrap_or("feast_audit.log")))
        }
        "logger" => AuditSink::Logger,
        _ => return Err(section.wrong("sink", "stdout, file or logger")),
    };
    let logs_reads = section.flag("log_successful_reads", true)?;
    Ok(section.flag("enabled", false)?.then_some(AuditConfig { sink, logs_reads }))
}

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
        offline_features: section.flag("offline_features", true)?,
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

    fn server(settings: &str) -> RepoConfig {
        let yaml = format!("project: p\nregistry: r.db\nfeature_server: {{{settings}}}\n");
        RepoConfig::from_yaml_text(&yaml, Path::new("/repo")).unwrap()
    }

    #[test]
    fn batches_need_both_numbers() {
        let (on, size, interval) = (
            "offline_push_batching_enabled: true",
            "offline_push_batching_batch_size: 100",
            "offline_push_batching_batch_interval_seconds: 5",
        );
        let whole = server(&format!("{on}, {size}, {interval}"));
        let expected = OfflineBatching { rows: 100, interval: Duration::from_secs(5) };
        assert_eq!(whole.offline_batching, Some(expected));
        assert_eq!(server(&format!("{size}, {interval}")).offline_batching, None);
        let half = server(&format!("{on}, {size}"));
        assert_eq!(half.offline_batching, None);
        assert!(half.warnings.iter().any(|warning| warning.contains("batch_interval_seconds")));
    }

    #[test]
    fn an_audit_log_goes_where_it_is_told_to() {
        assert_eq!(server("audit_logging: {enabled: false, sink: file}").audit, None);
        let stdout = AuditConfig { sink: AuditSink::Stdout, logs_reads: true };
        assert_eq!(server("audit_logging: {enabled: true}").audit, Some(stdout));
        let file = AuditConfig { sink: AuditSink::File("a.log".into()), logs_reads: false };
        let text = "{enabled: true, sink: file, file_path: a.log, log_successful_reads: false}";
        assert_eq!(server(&format!("audit_logging: {text}")).audit, Some(file));
    }
}
