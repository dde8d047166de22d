//! What a token says, judged: whether it is of now, of whom and for whom it is. Pure.

use serde_json::{Map, Value};

use super::token::Reason;
use super::user::User;
use crate::config::OidcConfig;

/// By how much the clocks of the provider and of this machine may differ, seconds.
const LEEWAY: f64 = 10.0;

/// The user whom `claims` are about, and until when (seconds since the epoch), if they are good
/// at `now`.
pub fn user(
    claims: &Map<String, Value>,
    config: &OidcConfig,
    now: f64,
) -> Result<(User, f64), Reason> {
    if claims.get("kubernetes.io").is_some_and(Value::is_object) {
        return Err("it is a service account's of Kubernetes, which are not supported");
    }
    let expires = time(claims, "exp")?.ok_or("it says not when it expires")? + LEEWAY;
    if now >= expires {
        return Err("it has expired");
    }
    for name in ["iat", "nbf"] {
        if time(claims, name)?.is_some_and(|time| time > now + LEEWAY) {
            return Err("it is not yet valid");
        }
    }
    check_purpose(claims, config)?;
    for name in ["sub", "jti"] {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            return Err("its subject or its id is not text");
        }
    }
    Ok((identity(claims, config)?, expires))
}

/// A time in seconds since the epoch, cut to whole ones as Feast cuts it; `None`: not given.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(f64::trunc).map(Some).ok_or("a time in it is no number"),
    }
}

fn check_purpose(claims: &Map<String, Value>, config: &OidcConfig) -> Result<(), Reason> {
    if let Some(audience) = &config.audience {
        let is_for_us = match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => {
                // One that is not even text makes the whole list suspicious.
                all.iter().all(Value::is_string) && all.iter().any(|one| one == audience.as_str())
            }
            _ => false,
        };
        if !is_for_us {
            return Err("it is for another audience");
        }
    }
    match &config.issuer {
        Some(issuer) if claims.get("iss").and_then(Value::as_str) != Some(issuer) => {
            Err("it is of another issuer")
        }
        _ => Ok(()),
    }
}

fn identity(claims: &Map<String, Value>, config: &OidcConfig) -> Result<User, Reason> {
    let names = ["preferred_username", "upn", "azp", "appid", "sub"];
    let name = names.iter().find_map(|name| claims.get(*name)?.as_str());
    let name = name.ok_or("it names no user")?.to_owned();
    let of_client = config.client_id.as_deref().map(|client| {
        let access = claims.get("resource_access").and_then(Value::as_object);
        texts(access.and_then(|access| access.get(client)?.as_object()?.get("roles")))
    });
    let mut roles = of_client.unwrap_or_default();
    roles.extend(texts(claims.get("roles")));
    Ok(User { name, roles, groups: texts(claims.get("groups")) })
}

/// The texts in a list; none if it is no list.
fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const NOW: f64 = 1_000_000.5;

    fn config() -> OidcConfig {
        OidcConfig {
            discovery_url: None,
            client_id: Some("feast".to_owned()),
            verify_tls: true,
            ca_cert_path: None,
            audience: None,
            issuer: None,
            keys_lifespan: Duration::from_secs(300),
            request_timeout: Duration::from_secs(10),
        }
    }

    fn judge(mut claims: Value, config: &OidcConfig) -> Result<User, Reason> {
        let claims = claims.as_object_mut().unwrap();
        claims.entry("exp").or_insert(json!(1_000_300));
        claims.entry("preferred_username").or_insert(json!("ann"));
        claims.retain(|_, value| !value.is_null());
        user(claims, config, NOW).map(|(user, _)| user)
    }

    #[test]
    fn times_are_checked_with_ten_seconds_of_leeway() {
        let refused = |claims| judge(claims, &config()).is_err();
        assert!(!refused(json!({"exp": 999_995})));
        assert!(refused(json!({"exp": 999_990})));
        assert!(refused(json!({"exp": null})));
        assert!(refused(json!({"exp": "1000300"})));
        assert!(refused(json!({"exp": true})));
        for name in ["nbf", "iat"] {
            assert!(!refused(json!({name: 1_000_009.9})));
            assert!(refused(json!({name: 1_000_060})));
            assert!(refused(json!({name: "x"})));
        }
    }

    #[test]
    fn audience_and_issuer_are_checked_where_they_are_set() {
        assert!(judge(json!({"aud": "other", "iss": "other"}), &config()).is_ok());
        let strict = OidcConfig {
            audience: Some("me".to_owned()),
            issuer: Some("idp".to_owned()),
            ..config()
        };
        assert!(judge(json!({"aud": "me", "iss": "idp"}), &strict).is_ok());
        assert!(judge(json!({"aud": ["other", "me"], "iss": "idp"}), &strict).is_ok());
        for claims in [
            json!({"iss": "idp"}),
            json!({"aud": "other", "iss": "idp"}),
            json!({"aud": [], "iss": "idp"}),
            json!({"aud": [7, "me"], "iss": "idp"}),
            json!({"aud": {"me": 1}, "iss": "idp"}),
            json!({"aud": "me"}),
            json!({"aud": "me", "iss": "idp2"}),
            json!({"aud": "me", "iss": ["idp"]}),
        ] {
            assert!(judge(claims.clone(), &strict).is_err(), "{claims}");
        }
    }

    #[test]
    fn names_roles_and_groups_are_where_feast_looks() {
        let claims = json!({
            "resource_access": {"feast": {"roles": ["a", 7, "b"]}, "other": {"roles": ["x"]}},
            "roles": ["b", "c"], "groups": ["g"],
        });
        let user = judge(claims, &config()).unwrap();
        assert_eq!(user.name, "ann");
        assert_eq!(user.roles, ["a", "b", "b", "c"]);
        assert_eq!(user.groups, ["g"]);

        let odd = json!({"resource_access": 5, "roles": "reader", "groups": {"g": 1}});
        let user = judge(odd, &config()).unwrap();
        assert!(user.roles.is_empty() && user.groups.is_empty());

        let app = json!({"preferred_username": 7, "azp": "app", "sub": "s"});
        assert_eq!(judge(app, &config()).unwrap().name, "app");
        assert!(judge(json!({"preferred_username": null}), &config()).is_err());
        assert!(judge(json!({"sub": 7}), &config()).is_err());
        assert!(judge(json!({"kubernetes.io": {"namespace": "n"}}), &config()).is_err());
    }
}
