//! One request before the eyes of those that want to know of it, whatever protocol it came by:
//! the access log, the tracer and the audit log. Each tells of it when it is dropped: also where
//! its client went away. Where none of them is there, it costs a look at an `Option` for each.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Instant;

use hyper::http::request::Parts;

use super::access_log::Entry;
use super::audit::Audited;
use super::auth::Principal;
use super::grpc::Code;
use super::shared::Shared;
use super::tracing::Span;

/// How a request was answered, in the words of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// With that status.
    Http(u16),
    /// A call, with that code.
    Grpc(Code),
}

/// Where it is said who makes a request, if anybody wants to know.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a>(Option<&'a OnceLock<Principal>>);

/// A request under way.
pub(super) struct Observed<'a> {
    entry: Option<Entry<'a>>,
    span: Option<Span<'a>>,
    audited: Option<Audited<'a>>,
}

impl Asker<'_> {
    pub(super) fn is(self, principal: &Principal) {
        if let Some(known) = self.0 {
            // Nobody else has said who it is.
            let _ = known.set(principal.clone());
        }
    }
}

impl<'a> Observed<'a> {
    /// The request with that head, which began at `begun`. `is_known` says whether a path is one
    /// of the server's own.
    pub(super) fn begin(
        server: &'a Shared,
        head: &'a Parts,
        client: SocketAddr,
        begun: Instant,
        is_known: impl FnOnce(&str) -> bool,
    ) -> Self {
        let log = server.access_log.as_ref();
        let tracer = server.tracer.as_ref();
        let audit = server.audit.as_ref();
        let span = tracer.and_then(|tracer| Span::begin(tracer, head, client, begun, is_known));
        let mut audited = audit.and_then(|audit| audit.watch(head, client, begun));
        if let Some(audited) = &mut audited {
            audited.place = span.as_ref().map(Span::place);
        }
        Observed { entry: log.map(|log| Entry::new(log, head, client, begun)), span, audited }
    }

    /// Does `work` for the request, which is made where it is awaited: moving it costs.
    pub(super) async fn during<'s, W: Future>(
        &'s mut self,
        work: impl FnOnce(Asker<'s>) -> W,
    ) -> W::Output {
        let asker = Asker(self.audited.as_ref().map(|audited| &audited.principal));
        match &mut self.span {
            None => work(asker).await,
            // On the heap: what is not traced need not have room for it.
            Some(span) => Box::pin(span.watch(work(asker))).await,
        }
    }

    /// It was answered with a body of so many bytes.
    pub(super) fn answered(&mut self, answered: Answered, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.answer = Some((answered, bytes));
        }
        if let Some(span) = &mut self.span {
            span.answered = Some(answered);
        }
        if let Some(audited) = &mut self.audited {
            audited.answered = Some(answered);
        }
    }
}
