//! `POST /get-online-features`, from the body of the request to that of the answer.

use std::time::Instant;

use bytes::Bytes;

use super::ask::{Ask, Features, parse, references};
use super::auth::Principal;
use super::entities::to_entities;
use super::metrics::{Endpoint, Metrics, Outcome, RequestClock};
use super::render::Rendering;
use super::reply::Reply;
use super::serving::{Prepared, Served, Serving, Way};
use super::{failure, validation};
use crate::error::{Error, ErrorKind, Result};

/// The answer to a request of `principal` with that body. `is_json`: whether its content type
/// says so; everything is over by `deadline`.
pub async fn get_online_features(
    serving: &Serving,
    principal: &Principal,
    body: &Bytes,
    is_json: bool,
    deadline: Option<Instant>,
) -> Reply {
    let text = std::str::from_utf8(body).ok().filter(|_| is_json);
    let Some(Ok(ask)) = text.map(parse) else { return validation::refuse(body, is_json) };
    let prepared = serving.prepare(&ask);
    if let (Err(_), Features::References(features)) = (&prepared, &ask.features)
        && references(features).is_none()
    {
        return validation::refuse(body, true);
    }
    let clock = Metrics::of_process().request(Endpoint::GetOnlineFeatures);
    let mut turn = Turn { serving, principal, body, deadline, clock };
    let reply = match prepared {
        Ok(prepared) => {
            let read = turn.read(&prepared, ask).await;
            read.unwrap_or_else(|error| failure::reply(&error))
        }
        Err(error) => turn.why_not_prepared(&ask, &error),
    };
    turn.clock.finish(Outcome::of(&reply));
    reply
}

/// A request that was understood.
struct Turn<'a> {
    serving: &'a Serving,
    principal: &'a Principal,
    body: &'a Bytes,
    deadline: Option<Instant>,
    clock: RequestClock<'a>,
}

impl Turn<'_> {
    async fn read(&mut self, prepared: &Prepared, ask: Ask<'_>) -> Result<Reply> {
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
                    return Ok(failure::request_data_missing(&missing));
                }
                self.serving.read_by_host(self.body.clone(), self.deadline).await?
            }
        };
        metrics.read_ends(&prepared.series, &served.answer);
        let body = render(&served).await?;
        metrics.written_out(&served.answer);
        Ok(Reply::json(200, body))
    }

    #[cold]
    fn why_not_prepared(&mut self, ask: &Ask<'_>, error: &Error) -> Reply {
        match self.serving.unplanned(ask, self.principal, error) {
            Err(denied) => return failure::reply(&denied),
            Ok(None) => {}
            Ok(Some(counts)) => {
                self.clock.asks(counts);
                Metrics::of_process().read_begins(ask.rows());
            }
        }
        match error.kind() {
            ErrorKind::FeatureNameCollision => failure::collision(error, ask.full_feature_names),
            ErrorKind::InvalidArgument if self.serving.is_materializing(ask) => {
                failure::later(error)
            }
            _ => failure::reply(error),
        }
    }
}

/// The answer as JSON. Between the slices of a large one, other requests have the thread.
async fn render(served: &Served) -> Result<Vec<u8>> {
    let mut rendering = Rendering::new(&served.answer);
    while !rendering.write_slice()? {
        tokio::task::yield_now().await;
    }
    rendering.finish(&served.view_versions)
}
