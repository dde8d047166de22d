//! OpenTelemetry: one span for each request of a traced server, in the trace that the request's
//! `traceparent` names, and one in it for the read of the online store. They are handed in
//! batches to whoever takes OTLP over HTTP. Must not know what is asked for.
//!
//! A server is traced where the standard environment says where to ([`Settings`]); else all of it
//! costs a request one look at an `Option`.

mod collector;
mod context;
mod conventions;
mod otlp;
mod sampler;
mod settings;
mod span;
mod tracer;

pub use sampler::Sampler;
pub use settings::Settings;
pub(super) use span::{Span, StoreRead, note_read};
pub(super) use tracer::Tracer;
