//! One request for features that was understood, from its plan to what was read, whatever
//! protocol it came by: who may, how much, by whom, and counted. Must not know protocols.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::ask::Ask;
use super::auth::Principal;
use super::entities::to_entities;
use super::failure;
use super::metrics::{Endpoint, Metrics, Outcome, RequestClock};
use super::serving::{Prepared, Served, Serving, Way};
use super::tracing::{StoreRead, note_read};
use crate::error::{Error, ErrorKind, Result};

/// Why there is no answer.
pub(super) enum Refusal {
    /// It failed.
    Failed(Error),
    /// The same, and it is likely to succeed soon.
    Later(Error),
}

/// A request that was understood.
pub(super) struct Turn<'a> {
    serving: &'a Serving,
    principal: &'a Principal,
    deadline: Option<Instant>,
    clock: RequestClock<'a>,
}

impl<'a> Turn<'a> {
    /// The turn of a request of `principal`, which is over by `deadline`.
    pub(super) fn new(
        serving: &'a Serving,
        principal: &'a Principal,
        deadline: Option<Instant>,
    ) -> Self {
        let clock = Metrics::of_process().request(Endpoint::GetOnlineFeatures);
        Turn { serving, principal, deadline, clock }
    }

    /// The answer to `ask`. `body` gives the request as the host takes it: the body of
    /// `POST /get-online-features`.
    pub(super) async fn read(
        &mut self,
        prepared: Result<Arc<Prepared>>,
        ask: Ask<'_>,
        body: impl FnOnce(&Ask<'_>) -> Result<Bytes>,
    ) -> std::result::Result<Served, Refusal> {
        match prepared {
            Ok(prepared) => self.read_prepared(&prepared, ask, body).await.map_err(Refusal::Failed),
            Err(error) => Err(self.why_not_prepared(&ask, error)),
        }
    }

    /// Counts it as answered, now that the answer is written. Without this it has failed.
    pub(super) fn succeed(self, served: &Served) {
        Metrics::of_process().written_out(&served.answer);
        self.clock.finish(Outcome::Success);
    }

    async fn read_prepared(
        &mut self,
        prepared: &Prepared,
        ask: Ask<'_>,
        body: impl FnOnce(&Ask<'_>) -> Result<Bytes>,
    ) -> Result<Served> {
        if let Some(guard) = &prepared.guard {
            guard.check(self.principal)?;
        }
        let metrics = Metrics::of_process();
        self.clock.reads(&prepared.series);
        metrics.read_begins(ask.rows());
        self.serving.check_size(prepared, ask.rows())?;
        let wants_versions = ask.include_feature_view_version_metadata;
        let served = match &prepared.way {
            Way::Native(reader) => {
                let entities = to_entities(reader.plan(), ask.entities)?;
                let answer = self.serving.read(reader, entities, self.deadline).await?;
                let versions = wants_versions.then(|| reader.plan().view_versions.clone());
                Served { answer, view_versions: versions.unwrap_or_default() }
            }
            Way::Host(request_data) => {
                let is_given = |name: &str| ask.entities.iter().any(|(known, _)| known == name);
                let names = request_data.iter().map(String::as_str);
                let missing: Vec<&str> = names.filter(|name| !is_given(name)).collect();
                if !missing.is_empty() {
                    return Err(failure::request_data_missing(&missing));
                }
                let body = body(&ask)?;
                drop(ask);
                self.serving.read_by_host(body, self.deadline).await?
            }
        };
        metrics.read_ends(&prepared.series, &served.answer);
        if let Some(time) = served.answer.store_time() {
            let entities = served.answer.rows();
            note_read(|| StoreRead {
                time,
                views: prepared.views.clone(),
                service: prepared.service.clone(),
                features: prepared.features,
                entities,
            });
        }
        Ok(served)
    }

    #[cold]
    fn why_not_prepared(&mut self, ask: &Ask<'_>, error: Error) -> Refusal {
        match self.serving.unplanned(ask, self.principal, &error) {
            Err(denied) => return Refusal::Failed(denied),
            Ok(None) => {}
            Ok(Some(counts)) => {
                self.clock.asks(counts);
                Metrics::of_process().read_begins(ask.rows());
            }
        }
        match error.kind() {
            ErrorKind::FeatureNameCollision => {
                Refusal::Failed(failure::collision(&error, ask.full_feature_names))
            }
            ErrorKind::InvalidArgument if self.serving.is_materializing(ask) => {
                Refusal::Later(error)
            }
            _ => Refusal::Failed(error),
        }
    }
}
