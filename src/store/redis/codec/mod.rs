//! RESP2 without I/O: commands are encoded into one buffer, replies are parsed where they
//! were received. Must not know sockets, timeouts or what the commands mean.

mod command;
mod replies;
mod reply;

pub(super) use command::{CommandBuffer, append_argument};
pub(super) use replies::Replies;
pub(super) use reply::{Reply, ReplyParser};
