//! Why a connection is of no use any more: told to everybody who waits for it, so it can be
//! copied, which an [`Error`] can't.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::super::pool::Target;
use crate::error::{Error, ErrorKind};

/// What became of a connection.
#[derive(Clone, Debug)]
pub(in super::super) struct Failure {
    pub(in super::super) reason: Reason,
    kind: ErrorKind,
    message: Arc<str>,
}

/// What a read may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Reason {
    /// It never came up.
    Unreachable,
    /// An answer was overdue.
    Overdue,
    /// It broke, or what came over it makes no sense.
    Broken,
}

impl Failure {
    #[cold]
    pub(super) fn lost(node: &str, source: &io::Error) -> Self {
        Failure {
            reason: Reason::Broken,
            kind: ErrorKind::StoreUnavailable,
            message: format!("the connection to Redis at {node} broke during a read: {source}")
                .into(),
        }
    }

    #[cold]
    pub(super) fn overdue(node: &str, io_timeout: Duration) -> Self {
        Failure {
            reason: Reason::Overdue,
            kind: ErrorKind::StoreTimeout,
            message: format!(
                "Redis at {node} did not answer a read within {io_timeout:?}; it is overloaded or \
                 out of reach, or socket_timeout or ssl in connection_string is not what it \
                 should be"
            )
            .into(),
        }
    }

    #[cold]
    pub(super) fn no_redis(node: &str, what: &str) -> Self {
        Failure {
            reason: Reason::Broken,
            kind: ErrorKind::StoreInvalid,
            message: format!(
                "{node} answered a read with something that is no Redis protocol ({what}); does \
                 connection_string name the right port, and ssl=true if the server wants TLS?"
            )
            .into(),
        }
    }

    #[cold]
    pub(super) fn cannot_connect(target: &Target, source: &io::Error) -> Self {
        let (node, options) = (&target.node, &target.options);
        let (kind, message) = match source.kind() {
            io::ErrorKind::TimedOut => (
                ErrorKind::StoreTimeout,
                format!(
                    "can't connect to Redis at {node} within {:?} (socket_connect_timeout)",
                    options.connect_timeout
                ),
            ),
            _ => {
                (ErrorKind::StoreUnavailable, format!("can't connect to Redis at {node}: {source}"))
            }
        };
        Failure { reason: Reason::Unreachable, kind, message: message.into() }
    }

    /// The connection was given up on our side.
    #[cold]
    pub(super) fn closed(node: &str) -> Self {
        Failure {
            reason: Reason::Broken,
            kind: ErrorKind::StoreUnavailable,
            message: format!("the connection to Redis at {node} was closed").into(),
        }
    }

    /// The server refused the handshake.
    #[cold]
    pub(super) fn refused(error: &Error) -> Self {
        Failure {
            reason: Reason::Unreachable,
            kind: error.kind(),
            message: error.to_string().into(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Error::new(failure.kind, &*failure.message)
    }
}
