//! The body of an answer on its way to the client. It holds what its request was admitted with
//! until it is sent: clients that ask and do not read are bounded, too. A large one is sent in
//! pieces, and between them other connections have the thread.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::yield_now;

use super::budget::Share;

/// Bytes of a piece: the kernel copies it in a fraction of a millisecond.
const PIECE: usize = 64 << 10;

/// A body that is there as a whole.
pub(super) struct Payload {
    // `None`: all of it was taken to be sent.
    held: Option<Held>,
    // Under way between two pieces.
    pause: Option<Pause>,
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Bytes, and the admission of the request that they answer.
pub(super) struct Held {
    bytes: Bytes,
    _admitted: Option<Share>,
}

impl Held {
    pub(super) fn new(bytes: Bytes, admitted: Option<Share>) -> Self {
        Held { bytes, _admitted: admitted }
    }
}

impl Payload {
    pub(super) fn new(body: Vec<u8>, admitted: Option<Share>) -> Self {
        let held = (!body.is_empty()).then(|| Held::new(body.into(), admitted));
        Payload { held, pause: None }
    }

    /// How many bytes are not taken yet.
    pub(super) fn left(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes.len())
    }
}

impl Body for Payload {
    type Data = Held;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Held>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let piece = match &mut self.held {
            Some(held) if held.bytes.len() > PIECE => {
                Some(Held::new(held.bytes.split_to(PIECE), None))
            }
            _ => self.held.take(),
        };
        if self.held.is_some() {
            self.pause = Some(Box::pin(yield_now()));
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left() as u64)
    }
}

impl Buf for Held {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::server::budget::Budget;

    fn piece(payload: Pin<&mut Payload>) -> Poll<Held> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        payload.poll_frame(&mut context).map(|frame| {
            let frame = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
            frame.unwrap_or_else(|| unreachable!("it is data"))
        })
    }

    #[test]
    fn the_admission_is_held_until_all_is_sent() {
        let budget = Budget::new(1);
        let mut payload = pin!(Payload::new(b"answer".to_vec(), budget.take(1)));
        assert_eq!(payload.size_hint().exact(), Some(6));
        let Poll::Ready(mut held) = piece(payload.as_mut()) else { unreachable!("it is there") };
        assert!(payload.is_end_stream());
        held.advance(5);
        assert_eq!((held.chunk(), budget.taken()), (&b"r"[..], 1));
        drop(held);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_large_answer_lets_others_go_first() {
        let (budget, body): (_, Vec<u8>) =
            (Budget::new(1), (0..=255).cycle().take(150_000).collect());
        let mut payload = pin!(Payload::new(body.clone(), budget.take(1)));
        let (mut sent, mut pauses) = (Vec::new(), 0);

        while !payload.is_end_stream() {
            match piece(payload.as_mut()) {
                Poll::Ready(held) => sent.extend_from_slice(held.chunk()),
                Poll::Pending => pauses += 1,
            }
        }

        assert!(sent == body);
        assert_eq!((pauses, budget.taken()), (2, 0));
    }
}
