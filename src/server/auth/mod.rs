//! Who asks, and whether they may: what Feast's `auth: oidc` does
//! (`feast/permissions/auth/oidc_token_parser.py`, `feast/permissions/enforcer.py`).
//!
//! `bearer` finds the token in a header, `token` and `claims` take it apart, `keys` checks its
//! signature, `provider` has the keys of the identity provider, fetched and rotated, `tokens`
//! remembers those that were good. `rules` are the permissions of the registry, `pattern` their
//! regular expressions.
//!
//! Everything here fails closed: what can't be read, reached or understood lets nobody in. A
//! token never gets into an error or a log.

mod bearer;
mod claims;
mod gate;
mod keys;
mod pattern;
mod provider;
mod rules;
mod token;
mod tokens;
mod user;

pub use gate::{Gate, Principal};
pub use rules::{Guard, Resource, Rules};
pub use user::User;
