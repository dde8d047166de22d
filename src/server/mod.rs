//! The feature server: what `feast serve` answers, natively, over HTTP.
//!
//! A connection is taken ([`listen`](Server)) and served (`connection`); each request on it goes
//! through one `exchange`: told apart by method and path (`routes`), admitted within the
//! [`Limits`], its `body` read, and handed to the [`App`], whose handlers give a [`Reply`].
//! Handlers know nothing of HTTP but status codes, and nothing of Python: what only Python can
//! do is asked of a trait that the bindings implement.
//!
//! One task for each connection and none for a request, on the crate's one runtime, where the
//! connections to the online store live too.

mod access_log;
mod app;
mod body;
mod budget;
mod connection;
mod exchange;
mod health;
mod listen;
mod openapi;
mod options;
mod payload;
mod phase;
mod refresh;
mod reply;
mod request;
mod routes;
mod shared;
mod tls;

pub use app::App;
pub use listen::Server;
pub use options::{Limits, Options, TlsFiles};
pub use phase::Phase;
pub use refresh::{Freshness, Refresher};
pub use reply::Reply;
pub use request::Request;
pub use routes::Route;
