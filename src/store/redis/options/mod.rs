//! How to reach Redis, and as whom: Feast's connection string or a URL, with the names of
//! redis-py's parameters. Pure: must not know sockets. What it holds is never printed, for it
//! may hold a password.
//!
//! `text` takes either form apart into nodes and parameters, `parse` puts each parameter in its
//! place, `parameter` reads one value.

mod connect;
mod parameter;
mod parse;
mod text;
mod tls;

pub(super) use connect::{Address, Options};
pub(super) use tls::{TlsOptions, TlsVersion, Verification};

use crate::error::{Error, ErrorKind};

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
