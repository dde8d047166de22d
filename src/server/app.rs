//! What is behind the routes: the handlers, and what they share. Must not know connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;

use super::auth::Principal;
use super::handlers::get_online_features;
use super::health;
use super::host::Host;
use super::materializations::Materializations;
use super::openapi;
use super::options::Limits;
use super::phase::Phase;
use super::refresh::Refresher;
use super::reply::Reply;
use super::request::Request;
use super::routes::{self, Route};
use super::serving::Serving;
use super::writes::{Access, Writes};
use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::Result;
use crate::registry::Catalog;
use crate::registry::cache::RegistryCache;
use crate::runtime;
use crate::store::OnlineStore;

/// How often it is looked whether materializations have stopped.
const LOOK: Duration = Duration::from_millis(20);

/// What all requests to a server share.
pub struct App {
    registry: RegistryCache,
    refresher: Refresher,
    // `None`: a store that only the host can use.
    online: Option<Arc<dyn OnlineStore>>,
    serving: Serving,
    writes: Writes,
    materializations: Materializations,
}

impl App {
    /// Serves the features that `registry` defines from `online`, within `limits`; without a
    /// store, the host reads and writes them all.
    pub fn new(
        config: RepoConfig,
        registry: RegistryCache,
        online: Option<Arc<dyn OnlineStore>>,
        host: Arc<dyn Host>,
        limits: &Limits,
    ) -> Self {
        let config = Arc::new(config);
        let shared = || (registry.clone(), online.clone(), host.clone());
        let (ours, store, python) = shared();
        let serving = Serving::new(&config, Arc::new(ours), store, python).with_limits(limits);
        let (ours, store, python) = shared();
        let writes = Writes::new(config.clone(), ours, store, python);
        let (ours, store, python) = shared();
        let materializations = Materializations::new(config, ours, store, python);
        let refresher = Refresher::new(registry.clone());
        App { registry, refresher, online, serving, writes, materializations }
    }

    /// What keeps the registry fresh.
    pub fn refresher(&self) -> &Refresher {
        &self.refresher
    }

    /// Whether the online store answers, as far as that can be asked here.
    pub(super) async fn ping(&self, deadline: Instant) -> Result<()> {
        match &self.online {
            Some(online) => online.ping(deadline).await,
            None => Ok(()),
        }
    }

    /// The answer to a request that came some other way than over the server's own connections.
    /// Nobody refreshes the registry then, so it is looked after here.
    pub async fn respond(&self, method: &str, path: &str, request: Request) -> Reply {
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        let query = request.query.clone();
        let location = |path: &str| match query.as_str() {
            "" => path.to_owned(),
            query => format!("{path}?{query}"),
        };
        let route = match routes::find(&method, path, location) {
            Ok(route) => route,
            Err(reply) => return *reply,
        };
        if self.registry.fresh().is_none() {
            // What fails is logged, and the old snapshot does.
            let _ = runtime::block(|| self.registry.catalog(Call::unlimited()).map(drop)).await;
        }
        self.answer(route, request, Phase::Serving).await
    }

    /// The answer to a request for `route`, in a server that is in `phase`.
    pub(super) async fn answer(&self, route: Route, request: Request, phase: Phase) -> Reply {
        let may = |_: &Catalog, _: &[String], _: Access| Ok(());
        match route {
            Route::Health => health::health(self),
            Route::Ready => health::ready(self, phase).await,
            Route::GetOnlineFeatures => {
                let Request { body, is_json, deadline, .. } = &request;
                let anyone = &Principal::Anyone;
                get_online_features(&self.serving, anyone, body, *is_json, *deadline).await
            }
            Route::Push => self.writes.push(&request, &may).await,
            Route::WriteToOnlineStore => self.writes.write_to_online_store(&request, &may).await,
            Route::Materialize => self.materializations.materialize(&request, &may).await,
            Route::MaterializeIncremental => {
                self.materializations.materialize_incremental(&request, &may).await
            }
            Route::OpenApi => openapi::document(),
            Route::Docs => openapi::page(),
            Route::Unsupported(instead) => Reply::message(501, instead),
            Route::Metrics => Reply::message(501, "feastrs does not offer this yet"),
        }
    }

    /// Makes materializations that go on end soon.
    pub fn stop(&self) {
        self.materializations.stop();
    }

    /// Waits until no materialization goes on, at most for so long.
    pub(super) async fn idle(&self, patience: Duration) {
        let end = Instant::now() + patience;
        while !self.materializations.is_idle() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }
}
