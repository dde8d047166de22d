//! The standard environment variables of OpenTelemetry's exporters that concern traces over HTTP.
//! Must not know who reads the environment: the lookup is handed in.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::sampler::Sampler;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::server::percent;

const MAX_EVERY: Duration = Duration::from_secs(3600);
/// What OpenTelemetry calls a database that it has no name for.
const OTHER_STORE: &str = "_OTHER";

/// Where spans are sent, and which.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL that takes traces.
    pub endpoint: Url,
    /// Sent with each batch; may hold secrets.
    pub headers: HeaderMap,
    /// How long a batch may take to be taken.
    pub timeout: Duration,
    /// How often what has gathered is sent.
    pub every: Duration,
    /// Attributes of the resource, `service.name` among them.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// The project that is served.
    pub project: String,
    /// The name that OpenTelemetry has for its online store.
    pub store: &'static str,
}

impl Settings {
    /// By `variable`, which gives the value of an environment variable. `None`: nothing is to be
    /// traced, for no endpoint is set, or it is switched off.
    ///
    /// Errors: what is set makes no sense, or is not supported.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let get = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is = |name: &str, word: &str| get(name).is_some_and(|v| v.eq_ignore_ascii_case(word));
        let of_traces = |name: &str| {
            let special = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            let general = format!("OTEL_EXPORTER_OTLP_{name}");
            get(&special).map(|value| (special, value)).or(get(&general).map(|v| (general, v)))
        };
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let Some((name, endpoint)) = of_traces("ENDPOINT") else { return Ok(None) };
        if let Some((name, protocol)) = of_traces("PROTOCOL")
            && protocol != "http/protobuf"
        {
            let text = format!("{name} is '{protocol}'; feastrs speaks http/protobuf");
            return Err(Error::new(ErrorKind::InvalidConfig, text));
        }
        let millis = |name: &str, value: &str| match value.trim().parse() {
            Ok(millis) => Ok(Duration::from_millis(millis).min(MAX_EVERY)),
            Err(_) => Err(no(name, value, "a number of milliseconds")),
        };
        let timeout =
            of_traces("TIMEOUT").map(|(name, value)| millis(&name, &value)).transpose()?;
        let delay = "OTEL_BSP_SCHEDULE_DELAY";
        let every = get(delay).map(|value| millis(delay, &value)).transpose()?;
        Ok(Some(Settings {
            endpoint: url(&name, &endpoint)?,
            headers: match of_traces("HEADERS") {
                Some((name, text)) => headers(&name, &text)?,
                None => HeaderMap::new(),
            },
            timeout: timeout.unwrap_or(Duration::from_secs(10)).max(Duration::from_millis(1)),
            every: every.unwrap_or(Duration::from_secs(5)).max(Duration::from_millis(1)),
            resource: resource(get("OTEL_RESOURCE_ATTRIBUTES"), get("OTEL_SERVICE_NAME")),
            sampler: sampler(get("OTEL_TRACES_SAMPLER"), get("OTEL_TRACES_SAMPLER_ARG"))?,
            project: String::new(),
            store: OTHER_STORE,
        }))
    }

    /// The same for the server of that configuration.
    #[must_use]
    pub fn of(self, config: &RepoConfig) -> Self {
        let store = match &config.online_store {
            OnlineStoreConfig::Redis(_) => "redis",
            OnlineStoreConfig::Sqlite(_) => "sqlite",
            _ => OTHER_STORE,
        };
        Settings { project: config.project.clone(), store, ..self }
    }
}

/// The general endpoint is a folder; that of traces is taken as it is.
fn url(name: &str, text: &str) -> Result<Url> {
    let no_url = || no(name, text, "a URL of http:// or https://");
    let mut url = Url::parse(text.trim()).map_err(|_| no_url())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(no_url());
    }
    if !name.contains("TRACES") {
        let folder = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{folder}/v1/traces"));
    }
    Ok(url)
}

/// `name=value,name=value`, percent-encoded.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let decoded = |text: &str| String::from_utf8_lossy(&percent::decoded(text.trim())).into_owned();
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(move |(name, value)| (decoded(name), decoded(value)))
}

fn headers(variable: &str, text: &str) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(text) {
        // A value may be a secret: it is not told.
        let bad = || {
            let text = format!("{variable} has a header '{name}' that can't be sent");
            Error::new(ErrorKind::InvalidConfig, text)
        };
        let header = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
        let mut value = HeaderValue::from_str(&value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(header.map_err(|_| bad())?, value);
    }
    Ok(headers)
}

fn resource(attributes: Option<String>, service: Option<String>) -> Vec<(String, String)> {
    let mut all: Vec<_> = attributes.as_deref().into_iter().flat_map(pairs).collect();
    let is_name = |(key, _): &(String, String)| key == "service.name";
    if let Some(service) = service {
        all.retain(|one| !is_name(one));
        all.push(("service.name".to_owned(), service));
    } else if !all.iter().any(is_name) {
        all.push(("service.name".to_owned(), "feastrs".to_owned()));
    }
    all
}

fn sampler(name: Option<String>, argument: Option<String>) -> Result<Sampler> {
    let name = name.unwrap_or_else(|| "parentbased_always_on".to_owned());
    let ratio = || match argument.as_deref().map_or(Ok(1.0), str::parse) {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => {
            let given = argument.as_deref().unwrap_or_default();
            Err(no("OTEL_TRACES_SAMPLER_ARG", given, "a number from 0 to 1"))
        }
    };
    let (follows_parent, base) = match name.strip_prefix("parentbased_") {
        Some(base) => (true, base),
        None => (false, name.as_str()),
    };
    let ratio = match base {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio()?,
        _ => {
            let known = "always_on, always_off or traceidratio, or one of these after parentbased_";
            return Err(no("OTEL_TRACES_SAMPLER", &name, known));
        }
    };
    Ok(Sampler { ratio, follows_parent })
}

#[cold]
fn no(name: &str, value: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, format!("{name} is '{value}', which is not {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>> {
        let all = variables.to_vec();
        Settings::read(move |name| {
            all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn without_an_endpoint_nothing_is_traced() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
    }

    #[test]
    fn the_general_endpoint_is_a_folder_and_that_of_traces_is_not() {
        let url = |variables: &[_]| read(variables).unwrap().unwrap().endpoint.to_string();
        assert_eq!(url(&[ENDPOINT]), "http://collector:4318/v1/traces");
        let special = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/take");
        assert_eq!(url(&[ENDPOINT, special]), "https://other/take");
    }

    #[test]
    fn headers_names_and_samplers_are_understood() {
        let settings = read(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, X-Other=1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment.name=test"),
            ("OTEL_SERVICE_NAME", "ranking"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.1"),
        ]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.headers["api-key"], "a b");
        assert_eq!(settings.headers["x-other"], "1");
        assert_eq!(settings.timeout, Duration::from_millis(250));
        let expected = [("deployment.environment.name", "test"), ("service.name", "ranking")];
        assert!(settings.resource.iter().map(|(k, v)| (&**k, &**v)).eq(expected));
        assert_eq!(settings.sampler, Sampler { ratio: 0.1, follows_parent: false });
        let plain = read(&[ENDPOINT]).unwrap().unwrap();
        assert_eq!(plain.resource, [("service.name".to_owned(), "feastrs".to_owned())]);
        assert_eq!(plain.sampler, Sampler::default());
    }

    #[test]
    fn nonsense_is_told_by_its_name() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ] {
            let error = read(&[(name, value), ENDPOINT]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let sampler = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        assert!(read(&[ENDPOINT, sampler[0], sampler[1]]).is_err());
    }
}
