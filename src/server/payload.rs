//! The body of an answer on its way to the client. It holds what its request was admitted with
//! until it is sent: clients that ask and do not read are bounded, too.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::budget::Share;

/// A body that is there as a whole. `None`: it was taken to be sent.
pub(super) struct Payload(Option<Held>);

/// Bytes, and the admission of the request that they answer.
pub(super) struct Held {
    bytes: Bytes,
    _admitted: Option<Share>,
}

impl Payload {
    pub(super) fn new(body: Vec<u8>, admitted: Option<Share>) -> Self {
        Payload(Some(Held { bytes: body.into(), _admitted: admitted }))
    }

    fn left(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.bytes.len())
    }
}

impl Body for Payload {
    type Data = Held;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Held>, Infallible>>> {
        let held = self.0.take().filter(|held| held.has_remaining());
        Poll::Ready(held.map(|held| Ok(Frame::data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
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

    #[test]
    fn the_admission_is_held_until_all_is_sent() {
        let budget = Budget::new(1);
        let mut payload = pin!(Payload::new(b"answer".to_vec(), budget.take(1)));
        assert_eq!(payload.size_hint().exact(), Some(6));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Some(Ok(frame))) = payload.as_mut().poll_frame(&mut context) else {
            unreachable!("it is there");
        };
        let mut held = frame.into_data().unwrap_or_else(|_| unreachable!("it is data"));
        assert!(payload.is_end_stream());
        held.advance(5);
        assert_eq!((held.chunk(), budget.taken()), (&b"r"[..], 1));
        drop(held);
        assert_eq!(budget.taken(), 0);
    }
}
