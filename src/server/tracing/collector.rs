//! Whoever takes spans, over HTTP: OTLP in protobuf. One that does not answer is told of in the
//! log when that begins and when it is over; its spans are lost.

use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::otlp::{
    ExportTraceServiceRequest, Resource, ResourceSpans, Scope, ScopeSpans, Span, attribute,
};
use super::settings::Settings;
use crate::error::{Error, ErrorKind, Result};

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.34.0";

pub(super) struct Collector {
    client: Client,
    endpoint: Url,
    resource: Resource,
    has_failed: AtomicBool,
}

impl Collector {
    pub(super) fn new(settings: Settings) -> Result<Self> {
        // TLS needs to be told who does the cryptography; whoever was first with it is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder().redirect(Policy::none()).timeout(settings.timeout);
        let client = builder.default_headers(settings.headers).build().map_err(|source| {
            let text = "the client that sends spans can't be made";
            Error::new(ErrorKind::InvalidConfig, text).with_source(source)
        })?;
        let library = [
            ("telemetry.sdk.name", "feastrs"),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        let library = library.iter().map(|(key, value)| attribute(key, *value));
        let given = settings.resource.iter().map(|(key, value)| attribute(key, value.as_str()));
        let resource = Resource { attributes: given.chain(library).collect() };
        let has_failed = AtomicBool::new(false);
        Ok(Collector { client, endpoint: settings.endpoint, resource, has_failed })
    }

    pub(super) async fn send(&self, spans: Vec<Span>) {
        let count = spans.len();
        let outcome = self.post(spans).await;
        let (has_failed, had_failed) = (outcome.is_err(), self.has_failed.load(Ordering::Relaxed));
        self.has_failed.store(has_failed, Ordering::Relaxed);
        match outcome {
            Err(why) if !had_failed => {
                log::warn!(
                    "{count} spans, and those to come, are not taken by the collector: {why}"
                );
            }
            Ok(()) if had_failed => log::info!("the collector takes spans again"),
            _ => {}
        }
    }

    async fn post(&self, spans: Vec<Span>) -> std::result::Result<(), String> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let scope = Some(Scope { name: "feastrs".to_owned(), version });
        let scope_spans = vec![ScopeSpans { scope, spans, schema_url: SCHEMA.to_owned() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans }];
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let request = self.client.post(self.endpoint.clone());
        let request = request.header("content-type", "application/x-protobuf").body(body);
        // A URL may hold a password.
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    }
}
