//! The feature server: what `feast serve` answers over HTTP and `feast listen` over gRPC,
//! natively.
//!
//! A connection is taken ([`listen`](Server)) and served (`connection`); each request on it goes
//! through one `exchange`: told apart by method and path (`routes`), admitted within the
//! [`Limits`], its `body` read, and handed to the [`App`], whose handlers give a [`Reply`];
//! who wants to know of requests sees it (`observed`).
//! Handlers know nothing of HTTP but status codes, and nothing of Python: what only Python can
//! do is asked of a [`Host`], which the bindings implement.
//!
//! Features: a handler takes a request from body ([`ask`], `entities`) over plan and store
//! (`reads`, [`serving`]) to answer ([`render`]); mistakes are told by [`validation`] and
//! [`failure`].
//! Rows: `writes` takes a request (`fields`) from JSON (`tree`, `rows`, `cells`, `iso`, `table`)
//! to the stores; `materializations` runs them on threads of their own.
//!
//! Calls of gRPC come over the same connections and end in the same handlers: see `grpc`.
//!
//! One task for each connection and none for a request, on the crate's one runtime, where the
//! connections to the online store live too.

mod access_log;
mod app;
pub mod ask;
pub(crate) mod audit;
pub mod auth;
mod body;
mod budget;
mod cells;
mod connection;
mod entities;
mod exchange;
pub mod failure;
mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod grpc;
mod handlers;
mod health;
mod host;
mod iso;
mod lines;
mod listen;
mod materializations;
pub mod metrics;
mod observed;
mod offline_batches;
mod openapi;
mod options;
mod payload;
mod percent;
mod phase;
mod print;
mod reads;
mod refresh;
pub mod render;
mod reply;
mod request;
mod routes;
mod rows;
pub mod serving;
mod shared;
mod table;
mod tls;
mod tokens;
mod tracing;
mod tree;
mod typed_entities;
pub mod validation;
mod writes;

pub use app::App;
pub use handlers::get_online_features;
pub use host::{Host, HostedMaterialization, HostedWrite, NoHost, Raised};
pub use listen::Server;
pub use materializations::Materializations;
pub use options::{Limits, Options, Protocol, TlsFiles};
pub use phase::Phase;
pub use refresh::{Freshness, Refresher};
pub use reply::Reply;
pub use request::{Request, is_json};
pub use routes::Route;
pub use serving::Serving;
pub use tracing::{Sampler, Settings as TraceSettings};
pub use writes::{Access, MayWrite, Writes};
