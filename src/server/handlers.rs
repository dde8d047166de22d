//! `POST /get-online-features`, from the body of the request to that of the answer.

use std::time::Instant;

use bytes::Bytes;

use super::ask::{Ask, Features, parse, references};
use super::entities::to_entities;
use super::reply::Reply;
use super::serving::{Prepared, Served, Serving, Way};
use super::tokens::Fault;
use super::{failure, render, validation};
use crate::error::{Error, ErrorKind, Result};

/// The answer to a request with that body. `is_json`: whether its content type says so;
/// everything is over by `deadline`.
pub async fn get_online_features(
    serving: &Serving,
    body: &Bytes,
    is_json: bool,
    deadline: Option<Instant>,
) -> Reply {
    if body.is_empty() {
        return validation::no_body();
    }
    let text = match std::str::from_utf8(body) {
        Ok(text) if is_json => text,
        Ok(text) => return validation::no_json(text),
        Err(_) if is_json => return validation::unreadable(),
        Err(_) => return validation::no_json(&String::from_utf8_lossy(body)),
    };
    let ask = match parse(text) {
        Ok(ask) => ask,
        Err(fault) => return validation::refuse(text, &fault),
    };
    let prepared = match serving.prepare(&ask) {
        Ok(prepared) => prepared,
        Err(error) => return why_not_prepared(serving, text, &ask, &error),
    };
    match read(serving, &prepared, ask, body, deadline).await {
        Ok(reply) => reply,
        Err(error) => failure::reply(&error),
    }
}

async fn read(
    serving: &Serving,
    prepared: &Prepared,
    ask: Ask<'_>,
    body: &Bytes,
    deadline: Option<Instant>,
) -> Result<Reply> {
    serving.check_size(prepared, ask.entities.first().map_or(0, |(_, values)| values.len()))?;
    let wants_versions = ask.include_feature_view_version_metadata;
    let served = match &prepared.way {
        Way::Native(reader) => {
            let entities = to_entities(reader.plan(), ask.entities)?;
            let answer = serving.read(reader, entities, deadline).await?;
            let versions = wants_versions.then(|| reader.plan().view_versions.clone());
            Served { answer, view_versions: versions.unwrap_or_default() }
        }
        Way::Host(request_data) => {
            let is_given = |name: &str| ask.entities.iter().any(|(known, _)| known == name);
            let missing: Vec<&str> =
                request_data.iter().map(String::as_str).filter(|name| !is_given(name)).collect();
            if !missing.is_empty() {
                return Ok(failure::request_data_missing(&missing));
            }
            serving.read_by_host(body.clone(), deadline).await?
        }
    };
    Ok(Reply::json(200, render::to_json(&served.answer, &served.view_versions)?))
}

#[cold]
fn why_not_prepared(serving: &Serving, text: &str, ask: &Ask<'_>, error: &Error) -> Reply {
    if let Features::References(features) = ask.features
        && references(features).is_none()
    {
        return validation::refuse(text, &Fault::Unexpected);
    }
    match error.kind() {
        ErrorKind::FeatureNameCollision => failure::collision(error, ask.full_feature_names),
        ErrorKind::InvalidArgument if serving.is_materializing(ask) => failure::later(error),
        _ => failure::reply(error),
    }
}
