//! Object stores, whatever they hold: clients with the settings and credentials of this process
//! ([`client`]), and waiting for them that the caller can stop ([`stop`]).
//!
//! Must not know registries and sources.

pub mod client;
mod profile;
pub mod scheme;
pub mod stop;

pub use client::{CloudSettings, Purpose, open};
pub use scheme::Cloud;
pub use stop::{Stop, until_stopped};
