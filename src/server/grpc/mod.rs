//! gRPC: what `feast listen` answers, and what Feast's servers in other languages answer, from
//! the same plans, snapshot and connections as HTTP.
//!
//! One call is taken through `call`: told apart by its path (`methods`), admitted within the
//! limits, its message taken out of its frame (`frame`), handled, and its answer framed with the
//! [`Status`](status::Status) behind it (`body`). Messages are read from and written to protobuf's
//! wire format directly (`request`, and `online::message` for answers): values stay the bytes
//! that they are. Rows become those of the HTTP server (`rows`). `health` and `reflection` are
//! the two services that gRPC's tools expect.
//!
//! The protocol is little more than five bytes before each message and a status after the last:
//! it is spoken here, on hyper's HTTP/2, so that limits and memory are those of the HTTP server.

mod body;
mod call;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod health;
mod methods;
mod reads;
mod reflection;
pub(super) mod request;
mod rows;
mod status;
mod timeout;
mod writes;

pub(super) use call::answer;
pub(super) use health::Health;
pub(super) use status::Code;
