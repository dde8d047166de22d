//! `GetOnlineFeatures`, from the message of the request to the framed one of the answer.

use std::time::Instant;

use bytes::Bytes;

use super::frame::{begin, end};
use super::request::features_request;
use super::status::{Code, Status};
use super::writes::misread;
use crate::error::Result as CoreResult;
use crate::online::message::AnswerWriter;
use crate::server::ask::{Ask, Features, Values};
use crate::server::auth::Principal;
use crate::server::entities::to_shown;
use crate::server::print;
use crate::server::reads::{Refusal, Turn};
use crate::server::serving::{Served, Serving};

/// Bytes for each value and what goes with it, as a first guess.
const BYTES_PER_VALUE: usize = 24;
/// Bytes that are written before others have their turn: a fraction of a millisecond.
const SLICE: usize = 256 << 10;

/// The answer to a request of `principal`, which is over by `deadline`.
pub(super) async fn get_online_features(
    serving: &Serving,
    principal: &Principal,
    message: &Bytes,
    deadline: Instant,
) -> Result<Vec<u8>, Status> {
    let misread = |error| misread("feast.serving.GetOnlineFeaturesRequest", &error);
    let ask = features_request(message).map_err(misread)?;
    let prepared = serving.prepare(&ask);
    let mut turn = Turn::new(serving, principal, Some(deadline));
    let served = turn.read(prepared, ask, body).await.map_err(|refusal| match refusal {
        Refusal::Failed(error) => Status::of(&error),
        Refusal::Later(error) => Status::new(Code::Unavailable, error.to_string()),
    })?;
    let written = write(&served).await.map_err(|error| Status::of(&error))?;
    turn.succeed(&served);
    Ok(written)
}

/// The answer in its frame. Between the columns of a large one, other calls have the thread.
async fn write(served: &Served) -> CoreResult<Vec<u8>> {
    let Served { answer, view_versions } = served;
    let capacity = 64 + answer.rows() * answer.width() * BYTES_PER_VALUE;
    let mut out = begin(capacity);
    let mut writer = AnswerWriter::new(answer);
    writer.put_metadata(&mut out, view_versions)?;
    let mut paused_at = 0;
    while writer.put_column(&mut out)? {
        if out.len() - paused_at > SLICE {
            tokio::task::yield_now().await;
            paused_at = out.len();
        }
    }
    Ok(end(out))
}

/// The request as the host takes it: the body of the HTTP server's.
pub(super) fn body(ask: &Ask<'_>) -> CoreResult<Bytes> {
    let mut out = b"{\"entities\":{".to_vec();
    for (index, (name, values)) in ask.entities.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b"," } else { b"" });
        print::string(&mut out, name);
        out.extend_from_slice(b":[");
        if let Values::Wire(values) = values {
            let column = to_shown(Values::Wire(values.clone()), name)?;
            print::column(&mut out, &column, 0..column.len())?;
        }
        out.push(b']');
    }
    out.extend_from_slice(b"},\"features\":[");
    for (index, reference) in ask.features.references().unwrap_or_default().iter().enumerate() {
        out.extend_from_slice(if index > 0 { b"," } else { b"" });
        print::string(&mut out, reference);
    }
    out.push(b']');
    if let Features::Service(name) = &ask.features {
        out.extend_from_slice(b",\"feature_service\":");
        print::string(&mut out, name);
    }
    let flags = format!(
        ",\"full_feature_names\":{},\"include_feature_view_version_metadata\":{}}}",
        ask.full_feature_names, ask.include_feature_view_version_metadata
    );
    out.extend_from_slice(flags.as_bytes());
    Ok(out.into())
}
