//! What is behind the routes: the handlers, and what they share. Must not know connections.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::Method;

use super::auth::{Gate, Principal, Resource};
use super::budget::Budget;
use super::failure;
use super::handlers::get_online_features;
use super::health;
use super::host::Host;
use super::materializations::Materializations;
use super::metrics::{self, Endpoint, Metrics, Outcome};
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
use crate::registry::cache::RegistryCache;
use crate::registry::{Action, Catalog};
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
    gate: Arc<Gate>,
    serving: Serving,
    writes: Writes,
    materializations: Materializations,
    // The requests that each server of this is working on.
    in_flight: Mutex<Vec<Weak<Budget>>>,
}

impl App {
    /// Serves the features that `registry` defines from `online`, within `limits`; without a
    /// store, the host reads and writes them all.
    ///
    /// Errors: the configuration wants requests to be authorized in a way that is not supported.
    pub fn new(
        config: RepoConfig,
        registry: RegistryCache,
        online: Option<Arc<dyn OnlineStore>>,
        host: Arc<dyn Host>,
        limits: &Limits,
    ) -> Result<Self> {
        let gate = Arc::new(Gate::new(&config.auth)?);
        Metrics::of_process().configure(&config.metrics);
        let config = Arc::new(config);
        let shared = || (registry.clone(), online.clone(), host.clone());
        let (ours, store, python) = shared();
        let serving = Serving::new(&config, Arc::new(ours), store, python)
            .with_limits(limits)
            .with_gate(gate.clone());
        let (ours, store, python) = shared();
        let writes = Writes::new(config.clone(), ours, store, python);
        let (ours, store, python) = shared();
        let materializations = Materializations::new(config, ours, store, python);
        let refresher = Refresher::new(registry.clone());
        let in_flight = Mutex::default();
        Ok(App { registry, refresher, online, gate, serving, writes, materializations, in_flight })
    }

    /// Who asks for `route`, by the `Authorization` header; the answer if they are not let in.
    pub(super) async fn admit(
        &self,
        route: Route,
        authorization: Option<&[u8]>,
    ) -> std::result::Result<Principal, Reply> {
        match route.takes_body() {
            true => self.gate.admit(authorization).await.map_err(|error| failure::reply(&error)),
            false => Ok(Principal::Anyone),
        }
    }

    fn may_write(
        &self,
        principal: &Principal,
        catalog: &Arc<Catalog>,
        views: &[String],
        access: Access,
    ) -> std::result::Result<(), Reply> {
        let actions: &[Action] = match access {
            Access::WriteOnline => &[Action::WriteOnline],
            Access::WriteOffline => &[Action::WriteOffline],
            Access::WriteBoth => &[Action::WriteOffline, Action::WriteOnline],
        };
        let views = views.iter().map(|view| catalog.view(view)).collect::<Result<Vec<_>>>();
        let views = views.map(|views| views.into_iter().map(Resource::view));
        let check = |views| self.gate.check(principal, catalog, views, actions);
        views.and_then(check).map_err(|error| failure::reply(&error))
    }

    /// Counts what is taken of `requests` among those in flight.
    pub(super) fn add_server(&self, requests: &Arc<Budget>) {
        // A panic can't leave them half changed.
        let mut servers = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|known| known.strong_count() > 0);
        servers.push(Arc::downgrade(requests));
    }

    fn in_flight(&self) -> usize {
        let servers = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        servers.iter().filter_map(Weak::upgrade).map(|requests| requests.taken()).sum()
    }

    /// What is counted, and how things are at the moment, for Prometheus.
    pub(super) fn scrape(&self) -> String {
        let metrics = Metrics::of_process();
        metrics.note_in_flight(self.in_flight());
        metrics.note_registry(&self.registry.latest(), self.refresher.freshness().age);
        if let Some(count) = self.online.as_ref().and_then(|online| online.connections()) {
            metrics.note_connections(count);
        }
        metrics.text()
    }

    /// Who may use it.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What reads features.
    pub(super) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The registry's latest snapshot.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.registry.latest()
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
    pub async fn respond(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&[u8]>,
        mut request: Request,
    ) -> Reply {
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
        match self.admit(route, authorization).await {
            Ok(principal) => request.principal = principal,
            Err(reply) => return reply,
        }
        self.answer(route, request, Phase::Serving).await
    }

    /// The answer to a request for `route`, in a server that is in `phase`.
    pub(super) async fn answer(&self, route: Route, request: Request, phase: Phase) -> Reply {
        let may = |catalog: &Arc<Catalog>, views: &[String], access: Access| {
            self.may_write(&request.principal, catalog, views, access)
        };
        match route {
            Route::Health => health::health(self),
            Route::Ready => health::ready(self, phase).await,
            Route::GetOnlineFeatures => {
                let Request { principal, body, is_json, deadline, .. } = &request;
                get_online_features(&self.serving, principal, body, *is_json, *deadline).await
            }
            Route::Push => counted(Endpoint::Push, self.writes.push(&request, &may)).await,
            Route::WriteToOnlineStore => self.writes.write_to_online_store(&request, &may).await,
            Route::Materialize => {
                let done = self.materializations.materialize(&request, &may);
                counted(Endpoint::Materialize, done).await
            }
            Route::MaterializeIncremental => {
                let done = self.materializations.materialize_incremental(&request, &may);
                counted(Endpoint::MaterializeIncremental, done).await
            }
            Route::OpenApi => openapi::document(),
            Route::Docs => openapi::page(),
            Route::Metrics => Reply {
                status: 200,
                content_type: metrics::CONTENT_TYPE,
                body: self.scrape().into(),
                ..Reply::default()
            },
            Route::Unsupported(instead) => Reply::message(501, instead),
        }
    }

    /// Makes materializations that go on end soon.
    pub fn stop(&self) {
        self.materializations.stop();
    }

    /// Writes what was pushed and waits.
    pub(super) async fn flush(&self) {
        self.writes.flush().await;
    }

    /// Waits until no materialization goes on, at most for so long.
    pub(super) async fn idle(&self, patience: Duration) {
        let end = Instant::now() + patience;
        while !self.materializations.is_idle() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Counts a request with its answer; one that was not understood is no request to Feast.
async fn counted(endpoint: Endpoint, work: impl Future<Output = Reply>) -> Reply {
    let clock = Metrics::of_process().request(endpoint);
    let reply = work.await;
    match reply.body.starts_with(b"{\"detail\":") {
        true => clock.forget(),
        false => clock.finish(Outcome::of(&reply)),
    }
    reply
}
