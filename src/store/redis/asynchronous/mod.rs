//! The asynchronous driver: reads in flight share connections, so that their commands travel
//! together. One task owns each connection's socket ([`driver`]); who reads holds a handle of
//! it ([`connection`]), waits for as many replies as it sent commands, and may go away at any
//! moment: its replies are then received and thrown away.
//!
//! Same options, same handshake, same [`ReadJob`](super::read_job::ReadJob) as the blocking
//! driver. Must not know requests or Python.

mod connection;
mod connections;
mod driver;
mod failure;
mod outbox;
mod reader;
mod stream;

pub(super) use connections::Connections;
pub(super) use failure::Reason;
pub(super) use reader::{Reader, Stop};
