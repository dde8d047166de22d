//! The body of an answer: messages, and the status of the call behind them. Like that of the
//! HTTP server it holds what its call was admitted with until it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use hyper::HeaderMap;
use hyper::body::{Body, Frame};

use super::status::Status;
use crate::server::budget::Share;
use crate::server::connection::Busy;
use crate::server::payload::{Held, Payload};

/// What a call is answered with.
pub(super) enum Content {
    /// Nothing: the status is in the head.
    Nothing,
    /// One message, in its frame, and the status after it.
    Message(Payload, Option<HeaderMap>),
    /// Messages as they come, the last of which is a status.
    Stream(Messages),
}

/// Frames of messages, and one of trailers.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Frame<Held>> + Send>>;

/// The body of an answer. The connection does not count as idle while it is there.
pub(in crate::server) struct CallBody {
    content: Content,
    _busy: Busy,
}

impl Content {
    /// One framed message, and that all went well.
    pub(super) fn message(framed: Vec<u8>, admitted: Option<Share>) -> Self {
        Content::Message(Payload::new(framed, admitted), Some(trailers(&Status::ok())))
    }

    /// How many bytes are known to come.
    pub(super) fn len(&self) -> usize {
        match self {
            Content::Message(message, _) => message.left(),
            _ => 0,
        }
    }
}

impl CallBody {
    pub(super) fn new(content: Content, busy: Busy) -> Self {
        CallBody { content, _busy: busy }
    }
}

/// One message of many, in its frame.
pub(super) fn message(framed: Vec<u8>) -> Frame<Held> {
    Frame::data(Held::new(framed.into(), None))
}

/// The end of many messages.
pub(super) fn end(status: &Status) -> Frame<Held> {
    Frame::trailers(trailers(status))
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status.put(&mut trailers);
    trailers
}

impl Body for CallBody {
    type Data = Held;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Held>, Infallible>>> {
        let frame = match &mut self.content {
            Content::Nothing => None,
            Content::Message(message, trailers) => {
                match ready!(Pin::new(message).poll_frame(context)) {
                    None => trailers.take().map(Frame::trailers),
                    piece => return Poll::Ready(piece),
                }
            }
            Content::Stream(messages) => ready!(messages.as_mut().poll_next(context)),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Nothing | Content::Message(_, None))
    }
}
