//! The body of a request, read whole and no further than the limits allow.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::budget::{Budget, Share};
use super::reply::Reply;

/// How much is taken in advance for a body that does not tell its length.
const PIECE: usize = 64 * 1024;

/// Reads `body`: the bytes, and what they take of `budget`.
///
/// Errors: the answer to a body that is longer than `limit`, that `budget` has no room for, or
/// that breaks off.
pub(super) async fn read(
    mut body: Incoming,
    limit: usize,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Share), Reply> {
    let known = body.size_hint().exact();
    let known = known.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if known.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let mut share = budget.take(known.unwrap_or(PIECE.min(limit))).ok_or_else(too_busy)?;
    let first = next(&mut body).await?.unwrap_or_default();
    if body.is_end_stream() && first.len() <= limit {
        return Ok((first, share));
    }
    let mut whole = BytesMut::with_capacity(known.unwrap_or(PIECE.min(limit)));
    let mut paid = whole.capacity();
    let mut piece = Some(first);
    while let Some(data) = piece {
        let length = whole.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if length > paid {
            // Doubled at least, as the buffer is.
            let more = length.max(2 * paid) - paid;
            if !share.grow(more) {
                return Err(too_busy());
            }
            paid += more;
        }
        whole.extend_from_slice(&data);
        piece = next(&mut body).await?;
    }
    Ok((whole.freeze(), share))
}

/// The next bytes; trailers are passed over.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Reply> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| broken_off())?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

#[cold]
fn too_large(limit: usize) -> Reply {
    let text =
        format!("the body has more than {limit} bytes, the limit of this server; ask in parts");
    Reply::message(413, &text).with_header("connection", "close")
}

#[cold]
fn too_busy() -> Reply {
    let text = "the bodies of the requests in flight take too much memory; try again";
    Reply::message(503, text).with_header("retry-after", "1").with_header("connection", "close")
}

#[cold]
fn broken_off() -> Reply {
    Reply::detail(400, "There was an error parsing the body").with_header("connection", "close")
}
