//! What is behind the routes: the handlers, and what they share. Must not know connections.

use std::sync::Arc;
use std::time::Instant;

use super::health;
use super::openapi;
use super::phase::Phase;
use super::refresh::Refresher;
use super::reply::Reply;
use super::request::Request;
use super::routes::Route;
use crate::error::Result;
use crate::registry::cache::RegistryCache;
use crate::store::OnlineStore;

/// What all requests to a server share.
pub struct App {
    refresher: Refresher,
    online: Arc<dyn OnlineStore>,
}

impl App {
    /// Serves the features that `registry` defines from `online`.
    pub fn new(registry: RegistryCache, online: Arc<dyn OnlineStore>) -> Self {
        App { refresher: Refresher::new(registry), online }
    }

    /// What keeps the registry fresh.
    pub fn refresher(&self) -> &Refresher {
        &self.refresher
    }

    /// Whether the online store answers.
    pub(super) async fn ping(&self, deadline: Instant) -> Result<()> {
        self.online.ping(deadline).await
    }

    /// The answer to a request for `route`, in a server that is in `phase`.
    pub(super) async fn answer(&self, route: Route, _request: Request, phase: Phase) -> Reply {
        match route {
            Route::Health => health::health(self),
            Route::Ready => health::ready(self, phase).await,
            Route::OpenApi => openapi::document(),
            Route::Docs => openapi::page(),
            Route::Unsupported(instead) => Reply::message(501, instead),
            _ => Reply::message(501, "feastrs does not offer this yet"),
        }
    }
}
