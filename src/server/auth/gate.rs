//! The gate in front of the handlers: from the `Authorization` header to a [`Principal`], and
//! from a principal to what it may do.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::provider::Provider;
use super::rules::{Resource, Rules};
use super::token::{Reason, Token};
use super::tokens::Tokens;
use super::user::User;
use super::{bearer, claims};
use crate::config::{AuthConfig, OidcConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Action, Catalog};
use crate::server::metrics::Metrics;

/// Why tokens are refused is logged no more often than this, or whoever sends bad ones fills
/// the log.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// By which Feast's servers trust each other, without a signature.
const INTRA_COMMUNICATION: &str = "INTRA_COMMUNICATION_BASE64";

/// Who may use a server; by default, whoever asks.
#[derive(Default)]
pub struct Gate(Option<Oidc>);

/// Who makes a request.
#[derive(Clone, Debug)]
pub enum Principal {
    /// Nobody was asked for a token: anybody may do anything.
    Anyone,
    /// A user, vouched for by the identity provider.
    User(Arc<User>),
}

struct Oidc {
    config: OidcConfig,
    provider: Arc<Provider>,
    tokens: Tokens,
    // Those of the latest snapshot that was asked about; `None`: nobody has asked.
    rules: RwLock<Option<(Weak<Catalog>, Arc<Rules>)>>,
    logged: Mutex<Option<Instant>>,
}

impl Gate {
    /// The gate that `config` asks for. What it leaves open is logged as a warning.
    ///
    /// Errors: the type is not supported, or a setting is not one that can be used.
    pub fn new(config: &AuthConfig) -> Result<Self> {
        match config {
            AuthConfig::NoAuth => Ok(Gate(None)),
            AuthConfig::Oidc(oidc) => Oidc::new(oidc).map(|oidc| Gate(Some(oidc))),
            AuthConfig::Other(kind) => {
                let message = format!(
                    "auth.type '{kind}' is not supported by this server, and it does not start \
                     without it; supported are no_auth and oidc, and `feast serve` has the others"
                );
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }

    /// Whether anybody is let in.
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Who makes a request with that `Authorization` header.
    ///
    /// Errors: there is no token, it is not good, or the provider can't be asked.
    pub async fn admit(&self, authorization: Option<&[u8]>) -> Result<Principal> {
        let Some(oidc) = &self.0 else { return Ok(Principal::Anyone) };
        let token = authorization.and_then(bearer::token);
        let token = token.ok_or_else(|| oidc.refused("there is none"))?;
        oidc.user(token, now()).await.map(Principal::User)
    }

    /// The permissions of `catalog`; `None`: nobody asks for them.
    pub fn rules(&self, catalog: &Arc<Catalog>) -> Option<Arc<Rules>> {
        self.0.as_ref().map(|oidc| oidc.rules(catalog))
    }

    /// Whether `principal` may do all of `actions` with each of `resources`.
    ///
    /// Errors: with one of them they may not.
    pub fn check<'a>(
        &self,
        principal: &Principal,
        catalog: &Arc<Catalog>,
        resources: impl IntoIterator<Item = Resource<'a>>,
        actions: &[Action],
    ) -> Result<()> {
        match self.rules(catalog) {
            None => Ok(()),
            Some(rules) => rules.guard(resources, actions).check(principal),
        }
    }
}

impl Oidc {
    fn new(config: &OidcConfig) -> Result<Self> {
        let provider = Arc::new(Provider::new(config)?);
        warn_of_what_is_open(config);
        Ok(Oidc {
            config: config.clone(),
            provider,
            tokens: Tokens::default(),
            rules: RwLock::new(None),
            logged: Mutex::new(None),
        })
    }

    async fn user(&self, text: &str, now: f64) -> Result<Arc<User>> {
        let token = Token::parse(text).map_err(|why| self.refused(why))?;
        let keys = self.provider.keys(&token.key_id).await.inspect_err(|_| {
            Metrics::of_process().refused("provider_unavailable");
        })?;
        if let Some(user) = self.tokens.get(text, &keys, now) {
            return Ok(user);
        }
        keys.check(&token).map_err(|why| self.refused(why))?;
        let judged = claims::user(&token.claims, &self.config, now);
        let (user, expires) = judged.map_err(|why| self.refused(why))?;
        let user = Arc::new(user);
        self.tokens.put(text, &user, expires, &keys);
        Ok(user)
    }

    fn rules(&self, catalog: &Arc<Catalog>) -> Arc<Rules> {
        // A panic can't leave them half changed.
        let known = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            // The weak reference keeps another snapshot from getting the same address.
            Some((of, rules)) if of.as_ptr() == Arc::as_ptr(catalog) => return rules.clone(),
            _ => {}
        }
        drop(known);
        let rules = Arc::new(Rules::new(catalog));
        let mut known = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Arc::downgrade(catalog), rules.clone()));
        rules
    }

    /// What the client is told, which is the same whatever was wrong; the log says what it was.
    #[cold]
    fn refused(&self, why: Reason) -> Error {
        Metrics::of_process().refused("unauthenticated");
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *logged = Some(Instant::now());
            log::info!("a token was not accepted: {why}");
        }
        Error::new(ErrorKind::Unauthenticated, "Invalid or expired access token")
    }
}

fn warn_of_what_is_open(config: &OidcConfig) {
    if config.audience.is_none() {
        log::warn!(
            "auth.audience is not set: tokens that the identity provider issued for ANY other \
             service are accepted; set it to what the provider puts into 'aud' for this one"
        );
    }
    if config.issuer.is_none() {
        log::warn!(
            "auth.issuer is not set: the issuer of tokens is NOT checked; set it to what the \
             identity provider puts into 'iss'"
        );
    }
    if !config.verify_tls {
        log::warn!(
            "auth.verify_ssl is false: whoever stands between this server and the identity \
             provider can let ANYBODY in; set auth.ca_cert_path instead"
        );
    }
    if std::env::var_os(INTRA_COMMUNICATION).is_some() {
        log::warn!("{INTRA_COMMUNICATION} is ignored: every token needs a signature here");
    }
}

/// Seconds since the epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_supported_does_not_start() {
        let error = Gate::new(&AuthConfig::Other("kubernetes".to_owned())).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("'kubernetes'"));
        assert!(Gate::new(&AuthConfig::NoAuth).unwrap().is_open());
    }
}
