//! What is behind the routes: the handlers, and what they share. Must not know connections.

use std::sync::Arc;

use super::reply::Reply;
use super::request::Request;
use super::routes::Route;
use crate::registry::cache::RegistryCache;
use crate::store::OnlineStore;

/// What all requests to a server share.
pub struct App {
    /// Where definitions come from.
    pub registry: RegistryCache,
    /// Where features come from.
    pub online: Arc<dyn OnlineStore>,
}

impl App {
    /// The answer to a request for `route`.
    pub(super) async fn answer(&self, route: Route, _request: Request) -> Reply {
        match route {
            Route::Health => Reply::empty(200),
            Route::Unsupported(instead) => Reply::message(501, instead),
            _ => Reply::message(501, "feastrs does not offer this yet"),
        }
    }
}
