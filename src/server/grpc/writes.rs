//! `Push` and `WriteToOnlineStore`: one row, through the handlers of the HTTP server.

use std::time::Instant;

use bytes::Bytes;

use super::request::{RowRequest, push_request, write_request};
use super::rows::{Types, df, put_text, types};
use super::status::{Code, Status};
use crate::error::{Error, ErrorKind};
use crate::registry::{Catalog, FeatureView};
use crate::server::app::App;
use crate::server::auth::Principal;
use crate::server::phase::Phase;
use crate::server::request::Request;
use crate::server::routes::Route;

/// The answer of both: `status` is true.
const DONE: &[u8] = &[0x08, 1];

/// Writes a row to the views of a push source.
pub(super) async fn push(
    app: &App,
    principal: &Principal,
    message: &Bytes,
    deadline: Instant,
) -> Result<&'static [u8], Status> {
    let request = push_request(message).map_err(|error| misread("PushRequest", &error))?;
    let catalog = app.catalog();
    let body = {
        let is_fed = |view: &&FeatureView| {
            view.stream_source.as_ref().is_some_and(|source| source.name == request.target)
        };
        let types = types(catalog.views.iter().filter(is_fed));
        let mut body = body("push_source_name", &request, &types)?;
        body.push_str(",\"to\":");
        put_text(&mut body, request.to);
        body
    };
    write(app, Route::Push, principal, body, deadline).await
}

/// Writes a row to a view.
pub(super) async fn write_to_online_store(
    app: &App,
    principal: &Principal,
    message: &Bytes,
    deadline: Instant,
) -> Result<&'static [u8], Status> {
    let request =
        write_request(message).map_err(|error| misread("WriteToOnlineStoreRequest", &error))?;
    let catalog: &Catalog = &app.catalog();
    let types = types(catalog.view(request.target).ok().into_iter());
    let body = body("feature_view_name", &request, &types)?;
    write(app, Route::WriteToOnlineStore, principal, body, deadline).await
}

/// The body of the HTTP server's request, without its end.
fn body(target: &str, request: &RowRequest<'_>, types: &Types<'_>) -> Result<String, Status> {
    let df = df(request, types).map_err(|error| Status::of(&error))?;
    let mut body = format!("{{\"{target}\":");
    put_text(&mut body, request.target);
    body.push_str(&format!(
        ",\"df\":{df},\"allow_registry_cache\":{}",
        request.allow_registry_cache
    ));
    Ok(body)
}

async fn write(
    app: &App,
    route: Route,
    principal: &Principal,
    mut body: String,
    deadline: Instant,
) -> Result<&'static [u8], Status> {
    body.push('}');
    let request = Request {
        query: String::new(),
        principal: principal.clone(),
        is_json: true,
        body: body.into(),
        deadline: Some(deadline),
    };
    let status = Status::of_reply(&app.answer(route, request, Phase::Serving).await);
    match status.code {
        Code::Ok => Ok(DONE),
        _ => Err(status),
    }
}

/// The status of a message that is not what it should be.
#[cold]
pub(super) fn misread(name: &str, error: &Error) -> Status {
    match error.kind() {
        ErrorKind::InvalidArgument => Status::of(error),
        _ => Status::new(
            Code::Internal,
            format!("these bytes are no {name}: a field is malformed or cut off"),
        ),
    }
}
