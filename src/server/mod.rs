//! The feature server: what `feast serve` answers, natively, over HTTP.
//!
//! A request comes in through the transport (`listen`: connections, limits, TLS), is told apart
//! by method and path (`routes`) and handed to a handler, which gives a [`Reply`]. Handlers know
//! nothing of HTTP but status codes, and nothing of Python: what only Python can do is asked of
//! a trait that the bindings implement.

mod reply;

pub use reply::Reply;
