//! The asynchronous driver: reads in flight share connections, so that their commands travel
//! together. One task owns each connection's socket ([`driver`]); who reads holds a handle of
//! it ([`connection`]), waits for as many replies as it sent commands, and may go away at any
//! moment: its replies are then received and thrown away.
//!
//! Same options, same handshake, same [`ReadJob`](super::read_job::ReadJob) as the blocking
//! driver. [`reader`] reads from one server; reads of a cluster have a driver of their own over
//! the same connections, in [`cluster`](super::cluster). Must not know requests or Python.

mod connection;
mod connections;
mod driver;
mod failure;
mod outbox;
mod reader;
mod stream;

pub(super) use connection::Coming;
pub(super) use connections::{Connections, Line};
pub(super) use failure::Reason;
pub(super) use reader::{CHUNK_FIELDS, Reader, Stop};
