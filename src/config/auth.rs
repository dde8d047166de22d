//! The section `auth:`, as `feast/permissions/auth_model.py` has it. A type that feastrs does
//! not implement is kept by its name: only a server must refuse it, a reader of features has
//! nobody to ask for a token.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::section::Section;
use super::settings::{AuthConfig, OidcConfig};
use crate::error::Result;

/// The settings of Feast's `oidc`, those of its clients among them. A name that is none of them
/// is refused: a misspelt `audience` would mean that none is checked.
const OIDC_KEYS: &[&str] = &[
    "type",
    "auth_discovery_url",
    "client_id",
    "ui_client_id",
    "verify_ssl",
    "ca_cert_path",
    "audience",
    "issuer",
    "jwks_cache_lifespan_seconds",
    "jwks_request_timeout_seconds",
    "username",
    "password",
    "client_secret",
    "token",
    "token_env_var",
    "token_refresh_margin_seconds",
];

const KEYS_LIFESPAN: Duration = Duration::from_secs(300);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The section `auth` of `top`.
pub(super) fn read(top: &Section<'_>) -> Result<AuthConfig> {
    let (kind, section) = match top.get("auth") {
        None => return Ok(AuthConfig::NoAuth),
        Some(Value::String(kind)) => (kind.as_str(), None),
        Some(Value::Object(entries)) => {
            let section = Section::new("auth", entries);
            (section.text("type")?.unwrap_or("no_auth"), Some(section))
        }
        Some(_) => return Err(top.wrong("auth", "the name of a type or a mapping with a type")),
    };
    match (kind, section) {
        ("no_auth", _) => Ok(AuthConfig::NoAuth),
        ("oidc", Some(section)) => oidc(&section).map(AuthConfig::Oidc),
        ("oidc", None) => Err(top.wrong("auth", "a mapping, for the type oidc has settings")),
        (other, _) => Ok(AuthConfig::Other(other.to_owned())),
    }
}

fn oidc(section: &Section<'_>) -> Result<OidcConfig> {
    section.require_known(OIDC_KEYS)?;
    Ok(OidcConfig {
        discovery_url: filled(section, "auth_discovery_url")?,
        client_id: filled(section, "client_id")?,
        verify_tls: section.flag("verify_ssl", true)?,
        // Empty is Feast's default.
        ca_cert_path: section
            .text("ca_cert_path")?
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        audience: filled(section, "audience")?,
        issuer: filled(section, "issuer")?,
        keys_lifespan: section.seconds("jwks_cache_lifespan_seconds")?.unwrap_or(KEYS_LIFESPAN),
        request_timeout: section
            .seconds("jwks_request_timeout_seconds")?
            .unwrap_or(REQUEST_TIMEOUT),
    })
}

/// Text that, where it is given, says something: empty, it may be a variable that was not set,
/// and must not switch a check off.
fn filled(section: &Section<'_>, key: &str) -> Result<Option<String>> {
    match section.text(key)? {
        Some("") => Err(section.wrong(key, "left out or not empty")),
        text => Ok(text.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::RepoConfig;

    fn parse(auth: &str) -> Result<AuthConfig> {
        let yaml = format!("project: p\nregistry: r.db\n{auth}\n");
        RepoConfig::from_yaml_text(&yaml, Path::new("/repo")).map(|config| config.auth)
    }

    #[test]
    fn types_are_told_apart() {
        assert_eq!(parse("").unwrap(), AuthConfig::NoAuth);
        assert_eq!(parse("auth: no_auth").unwrap(), AuthConfig::NoAuth);
        assert_eq!(parse("auth: {type: no_auth}").unwrap(), AuthConfig::NoAuth);
        let kubernetes = parse("auth: {type: kubernetes, any: 1}").unwrap();
        assert_eq!(kubernetes, AuthConfig::Other("kubernetes".to_owned()));
        assert!(parse("auth: oidc").is_err());
    }

    #[test]
    fn an_oidc_block_has_feasts_defaults_and_keeps_no_secret() {
        let auth = parse(
            "auth: {type: oidc, auth_discovery_url: 'https://idp/d', client_id: feast, \
             client_secret: hunter2, password: hunter2, jwks_request_timeout_seconds: 0.5}",
        );
        let auth = auth.unwrap();
        assert!(!format!("{auth:?}").contains("hunter2"));
        let AuthConfig::Oidc(oidc) = auth else { panic!("not oidc") };
        assert_eq!(oidc.discovery_url.as_deref(), Some("https://idp/d"));
        assert_eq!(oidc.keys_lifespan, Duration::from_secs(300));
        assert_eq!(oidc.request_timeout, Duration::from_millis(500));
        assert!(oidc.verify_tls);
        assert_eq!((oidc.audience, oidc.issuer, oidc.ca_cert_path), (None, None, None));
    }

    #[test]
    fn what_would_switch_a_check_off_by_mistake_is_refused() {
        for block in ["audiance: x", "audience: ''", "issuer: ''", "verify_ssl: maybe"] {
            let error = parse(&format!("auth: {{type: oidc, {block}}}")).unwrap_err();
            let key = block.split(':').next().unwrap();
            assert!(error.to_string().contains(&format!("auth.{key}")), "{error}");
        }
        assert!(parse("auth: {type: oidc, jwks_cache_lifespan_seconds: 0}").is_err());
    }
}
