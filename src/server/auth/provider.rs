//! The identity provider: where its keys are said to be (the discovery document), and the keys,
//! fetched over HTTP, kept for their lifespan, and fetched again when a token names one that is
//! not known. One request asks at a time; whoever has the key goes on meanwhile.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use serde_json::Value;
use tokio::sync::Mutex;

use super::keys::Keys;
use crate::config::OidcConfig;
use crate::error::{Error, ErrorKind, Result};

/// Tokens with keys that nobody knows make the provider be asked no more often than this.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// A provider that did not answer is not asked again before; meanwhile its tokens are refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// No document of a provider is larger.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_REDIRECTS: usize = 5;

/// An identity provider.
pub struct Provider {
    discovery_url: Url,
    lifespan: Duration,
    // Keys come from where the provider says, and from nowhere that that refers to.
    followed: Client,
    direct: Client,
    fetched: RwLock<Option<Fetched>>,
    asking: Mutex<Asking>,
}

#[derive(Clone)]
struct Fetched {
    keys: Arc<Keys>,
    at: Instant,
}

/// What whoever asks the provider knows of those who asked before.
#[derive(Default)]
struct Asking {
    keys_url: Option<Url>,
    // When a token with an unknown key last made somebody ask.
    for_unknown: Option<Instant>,
    failed: Option<Instant>,
}

impl Provider {
    /// The provider of `config`. Nothing is fetched yet.
    pub fn new(config: &OidcConfig) -> Result<Self> {
        let url = config.discovery_url.as_deref().ok_or_else(|| {
            let message = "auth.auth_discovery_url is not set: the server needs the address of the \
                           identity provider's discovery document";
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        let discovery_url = web_url(url).ok_or_else(|| {
            let message = "auth.auth_discovery_url must be a URL of http:// or https://";
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        Ok(Provider {
            discovery_url,
            lifespan: config.keys_lifespan,
            followed: client(config, Policy::limited(MAX_REDIRECTS))?,
            direct: client(config, Policy::none())?,
            fetched: RwLock::new(None),
            asking: Mutex::default(),
        })
    }

    /// The provider's keys, `key_id` among them if it has it.
    ///
    /// Errors: there are none that are young enough, and the provider can't be asked.
    pub async fn keys(self: &Arc<Self>, key_id: &str) -> Result<Arc<Keys>> {
        if let Some(fetched) = self.known()
            && fetched.keys.has(key_id)
        {
            if fetched.at.elapsed() > self.lifespan / 2 {
                self.clone().refresh_aside();
            }
            return Ok(fetched.keys);
        }
        let mut asking = self.asking.lock().await;
        // Whoever had the turn before may have got it.
        match self.known() {
            Some(fetched) if fetched.keys.has(key_id) || asking.asked_for_unknown() => {
                Ok(fetched.keys)
            }
            Some(fetched) => {
                asking.for_unknown = Some(Instant::now());
                Ok(self.fetch(&mut asking).await.unwrap_or(fetched.keys))
            }
            None if asking.has_just_failed() => Err(unavailable()),
            None => self.fetch(&mut asking).await,
        }
    }

    /// Keys that are younger than their lifespan.
    fn known(&self) -> Option<Fetched> {
        // A panic can't leave it half changed.
        let fetched = self.fetched.read().unwrap_or_else(PoisonError::into_inner);
        fetched.as_ref().filter(|fetched| fetched.at.elapsed() < self.lifespan).cloned()
    }

    /// Fetches the keys before they are too old, while requests go on with them.
    fn refresh_aside(self: Arc<Self>) {
        tokio::spawn(async move {
            let Ok(mut asking) = self.asking.try_lock() else { return };
            let is_young = |known: Fetched| known.at.elapsed() <= self.lifespan / 2;
            if !asking.has_just_failed() && !self.known().is_some_and(is_young) {
                // What went wrong is logged.
                drop(self.fetch(&mut asking).await);
            }
        });
    }

    /// Asks the provider, and keeps what it says.
    async fn fetch(&self, asking: &mut Asking) -> Result<Arc<Keys>> {
        match self.ask(asking).await {
            Ok(keys) => {
                asking.failed = None;
                let mut fetched = self.fetched.write().unwrap_or_else(PoisonError::into_inner);
                // The same keys stay the same: tokens were found good with them.
                let keys = match fetched.take() {
                    Some(before) if *before.keys == keys => before.keys,
                    _ => Arc::new(keys),
                };
                *fetched = Some(Fetched { keys: keys.clone(), at: Instant::now() });
                Ok(keys)
            }
            Err(why) => {
                asking.failed = Some(Instant::now());
                // Where the keys are may have changed.
                asking.keys_url = None;
                log::warn!("the keys of the identity provider can't be fetched: {why}");
                Err(unavailable())
            }
        }
    }

    async fn ask(&self, asking: &mut Asking) -> std::result::Result<Keys, String> {
        let url = match asking.keys_url.clone() {
            Some(url) => url,
            None => self.discover().await?,
        };
        let document = get(&self.direct, &url).await?;
        let keys = Keys::parse(&document).filter(|keys| !keys.is_empty());
        let keys = keys.ok_or_else(|| format!("{} has no keys for RS256", shown(&url)))?;
        asking.keys_url = Some(url);
        Ok(keys)
    }

    async fn discover(&self) -> std::result::Result<Url, String> {
        let document = get(&self.followed, &self.discovery_url).await?;
        let document: Option<Value> = serde_json::from_slice(&document).ok();
        let url = document.and_then(|document| web_url(document.get("jwks_uri")?.as_str()?));
        url.ok_or_else(|| format!("{} has no jwks_uri", shown(&self.discovery_url)))
    }
}

impl Asking {
    fn asked_for_unknown(&self) -> bool {
        self.for_unknown.is_some_and(|at| at.elapsed() < ASK_EVERY)
    }

    fn has_just_failed(&self) -> bool {
        self.failed.is_some_and(|at| at.elapsed() < RETRY_AFTER)
    }
}

fn client(config: &OidcConfig, redirects: Policy) -> Result<Client> {
    // TLS needs to be told who does the cryptography; whoever was first with it is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder =
        Client::builder().redirect(redirects).timeout(config.request_timeout).user_agent("feastrs");
    if !config.verify_tls {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if let Some(path) = &config.ca_cert_path {
        let invalid = |why: String| {
            let message = format!("auth.ca_cert_path '{}' {why}", path.display());
            Error::new(ErrorKind::InvalidConfig, message)
        };
        let pem =
            std::fs::read(path).map_err(|error| invalid(format!("can't be read: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| invalid("holds no certificates in PEM form".to_owned()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|source| {
        Error::new(ErrorKind::InvalidConfig, "can't make a client for the identity provider")
            .with_source(source.without_url())
    })
}

/// The body at `url`; why there is none otherwise.
async fn get(client: &Client, url: &Url) -> std::result::Result<Vec<u8>, String> {
    let failed =
        |error: reqwest::Error| format!("{}: {}", shown(url), causes(&error.without_url()));
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(format!("{} answers with {}", shown(url), response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err(format!("{} answers with more than {MAX_BYTES} bytes", shown(url)));
        }
    }
    Ok(body)
}

/// An error and what caused it: the outermost one says only that something was wrong.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn web_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

#[cold]
fn unavailable() -> Error {
    let message = "the identity provider can't be reached, so no token can be checked; try again";
    Error::new(ErrorKind::ProviderUnavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        let url = web_url("https://user:hunter2@idp.example:8443/realm?key=hunter2#x").unwrap();
        assert_eq!(shown(&url), "https://idp.example:8443/realm");
        assert!(web_url("file:///etc/passwd").is_none());
    }
}
