//! What all connections of a server share.

use std::sync::Arc;

use super::access_log::AccessLog;
use super::app::App;
use super::audit::Audit;
use super::budget::Budget;
use super::grpc::Health;
use super::options::Options;
use super::phase::Progress;
use super::tls::Tls;
use super::tracing::Tracer;
use crate::error::Result;

/// Clients that are told why they are turned away, at one time; the others see a closed door.
const FAREWELLS: usize = 256;

pub(super) struct Shared {
    pub(super) app: Arc<App>,
    pub(super) options: Options,
    pub(super) progress: Arc<Progress>,
    pub(super) tls: Option<Tls>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) tracer: Option<Tracer>,
    pub(super) audit: Option<Audit>,
    pub(super) connections: Arc<Budget>,
    // Connections that are told that they are too many.
    pub(super) farewells: Arc<Budget>,
    pub(super) requests: Arc<Budget>,
    pub(super) body_bytes: Arc<Budget>,
    // Of a server of gRPC.
    pub(super) health: Health,
}

impl Shared {
    pub(super) fn new(app: Arc<App>, options: Options) -> Result<Self> {
        let (protocol, tls) = (options.protocol, options.tls.is_some());
        let tracer = options.tracing.clone().map(|settings| Tracer::new(settings, protocol, tls));
        let audit = options.audit.as_ref().map(|config| Audit::new(config, protocol));
        let requests = Budget::new(options.limits.requests_in_flight);
        app.add_server(&requests);
        Ok(Shared {
            tracer: tracer.transpose()?,
            audit: audit.transpose()?,
            tls: options.tls.clone().map(Tls::new).transpose()?,
            access_log: options.access_log.then(|| AccessLog::new(std::io::stdout())),
            progress: Arc::default(),
            connections: Budget::new(options.limits.connections),
            farewells: Budget::new(FAREWELLS),
            requests,
            body_bytes: Budget::new(options.limits.body_bytes_in_flight),
            health: Health::new(options.limits.connections),
            app,
            options,
        })
    }
}
