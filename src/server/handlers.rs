//! `POST /get-online-features`, from the body of the request to that of the answer.

use std::time::Instant;

use bytes::Bytes;

use super::ask::{Features, parse, references};
use super::auth::Principal;
use super::reads::{Refusal, Turn};
use super::render::Rendering;
use super::reply::Reply;
use super::serving::{Served, Serving};
use super::{failure, validation};
use crate::error::Result;
use crate::runtime;

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
    let mut turn = Turn::new(serving, principal, deadline);
    let served = match turn.read(prepared, ask, |_| Ok(body.clone())).await {
        Ok(served) => served,
        Err(Refusal::Failed(error)) => return failure::reply(&error),
        Err(Refusal::Later(error)) => return failure::later(&error),
    };
    let rendered = match served.is_large() {
        true => runtime::aside(render(served)).await,
        false => render(served).await,
    };
    match rendered {
        Ok((served, json)) => {
            turn.succeed(&served);
            Reply::json(200, json)
        }
        Err(error) => failure::reply(&error),
    }
}

/// The answer, and it as JSON. Between the slices of a large one, others go first.
async fn render(served: Served) -> Result<(Served, Vec<u8>)> {
    let mut rendering = Rendering::new(&served.answer);
    while !rendering.write_slice()? {
        runtime::give_way().await;
    }
    let json = rendering.finish(&served.view_versions)?;
    Ok((served, json))
}
