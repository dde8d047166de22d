//! `POST /push` and `POST /write-to-online-store`: rows for views, from JSON to the stores. What
//! the core can write never waits for Python; the rest goes to the host.

use std::result::Result as Outcome;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::failure;
use super::fields::{Fields, parse};
use super::host::{Host, HostThreads, HostedWrite};
use super::metrics::Metrics;
use super::offline_batches::OfflineBatches;
use super::reply::Reply;
use super::request::Request;
use super::rows::Rows;
use super::tree::Json;
use crate::call::{Call, Uninterrupted};
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::materialize::frame::{
    FrameOptions, FramePlans, FrameTargets, append_frame, of_push_source, of_view, write_frame,
};
use crate::registry::Catalog;
use crate::registry::cache::RegistryCache;
use crate::runtime;
use crate::store::OnlineStore;

/// Writes that the host does at one time; more would wait for the same interpreter.
const HOST_WRITES: usize = 4;

/// What somebody wants to do with a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Write to the online store.
    WriteOnline,
    /// Write to the offline store.
    WriteOffline,
    /// Both.
    WriteBoth,
}

/// Whether whoever asks may do that with the views; the answer if not.
pub type MayWrite<'a> = dyn Fn(&Arc<Catalog>, &[String], Access) -> Outcome<(), Reply> + Sync + 'a;

/// What the handlers of writes need.
pub struct Writes {
    config: Arc<RepoConfig>,
    registry: RegistryCache,
    // `None`: a store that only the host can write.
    online: Option<Arc<dyn OnlineStore>>,
    host: HostThreads,
    plans: FramePlans,
    // `None`: rows for the offline store need not wait.
    batches: Option<Arc<OfflineBatches>>,
}

impl Writes {
    /// Writes rows of views in `registry` to `online`; without it the host writes them all.
    pub fn new(
        config: Arc<RepoConfig>,
        registry: RegistryCache,
        online: Option<Arc<dyn OnlineStore>>,
        host: Arc<dyn Host>,
    ) -> Self {
        let host = HostThreads::new(host, HOST_WRITES);
        let batches = OfflineBatches::new(&config, &registry);
        Writes { config, registry, online, host, plans: FramePlans::default(), batches }
    }

    /// Writes what was pushed and waits for more.
    pub(super) async fn flush(&self) {
        if let Some(batches) = &self.batches {
            batches.flush().await;
        }
    }

    /// `POST /push`.
    pub async fn push(&self, request: &Request, may: &MayWrite<'_>) -> Reply {
        let mut counted = None;
        let natively = |json: Option<&Json<'_>>| {
            let (left, source, to) = self.push_natively(json, request, may)?;
            counted = Some((source, to));
            Ok(left)
        };
        if let Err(reply) = self.run(request, natively).await {
            return reply;
        }
        if let Some((source, to)) = counted {
            Metrics::of_process().push(&source, &to);
        }
        Reply::empty(200)
    }

    /// `POST /write-to-online-store`.
    pub async fn write_to_online_store(&self, request: &Request, may: &MayWrite<'_>) -> Reply {
        match self.run(request, |json| self.write_natively(json, request, may)).await {
            Ok(()) => Reply::json(200, "null"),
            Err(reply) => reply,
        }
    }

    /// Runs `natively` on a thread that may block, and then what it leaves to the host.
    async fn run(
        &self,
        request: &Request,
        natively: impl FnOnce(Option<&Json<'_>>) -> Outcome<HostedWrite, Reply>,
    ) -> Outcome<(), Reply> {
        let native = runtime::block(|| {
            let json = parse(&request.body, request.is_json)?;
            natively(json.as_ref())
        });
        let left = native.await.map_err(|error| failure::reply(&error))??;
        if left.is_nothing() {
            return Ok(());
        }
        let body = request.body.clone();
        let write = HostedWrite { body, ..left };
        let called = self.host.call(request.deadline, move |host| host.write(&write)).await;
        called.map_err(|error| failure::reply(&error))
    }

    /// What is left to do of a push, and how it is counted: by its source, and where to it went.
    fn push_natively(
        &self,
        json: Option<&Json<'_>>,
        request: &Request,
        may: &MayWrite<'_>,
    ) -> Outcome<(HostedWrite, String, String), Reply> {
        let mut fields = Fields::new(json);
        fields.begin_body();
        let source = fields.text("push_source_name");
        let df = fields.object("df");
        let allow_cache = fields.flag_or("allow_registry_cache", true);
        let to = fields.text_or("to", "online");
        let transforms = fields.flag_or("transform_on_write", true);
        fields.check()?;
        let pushed = |left: HostedWrite| (left, source.to_owned(), to.to_owned());
        let rows = Rows::new(df).map_err(|error| failure::reply(&error))?;
        let (is_online, is_offline, access) = destination(to)?;
        let catalog = self.catalog(allow_cache, request)?;
        let targets = of_push_source(&catalog, &self.config, source).map_err(|error| {
            let message = format!("Unable to find push source '{source}'.");
            no_such(&error, ErrorKind::PushSourceNotFound, "PushSourceNotFoundException", &message)
        })?;
        may(&catalog, &views(&targets), access)?;
        if rows.is_empty() {
            return Ok(pushed(HostedWrite::default()));
        }
        if is_online {
            self.write(&targets.native, &rows, &catalog, request)?;
        }
        let mut left = left_to_host(&targets, is_online, is_offline);
        if !left.appended.is_empty()
            && let Some(table) = rows.table()
        {
            let names = std::mem::take(&mut left.appended);
            let appended = match &self.batches {
                Some(batches) => batches.keep(names, table),
                None => self.append(&names, &catalog, table, request),
            };
            appended.map_err(|error| failure::reply(&error))?;
        }
        Ok(pushed(HostedWrite {
            allow_registry_cache: allow_cache,
            transform_on_write: transforms,
            ..left
        }))
    }

    fn write_natively(
        &self,
        json: Option<&Json<'_>>,
        request: &Request,
        may: &MayWrite<'_>,
    ) -> Outcome<HostedWrite, Reply> {
        let mut fields = Fields::new(json);
        fields.begin_body();
        let view = fields.text("feature_view_name");
        let df = fields.object("df");
        let allow_cache = fields.flag_or("allow_registry_cache", true);
        let transforms = fields.flag_or("transform_on_write", true);
        fields.check()?;
        let rows = Rows::new(df).map_err(|error| failure::reply(&error))?;
        let catalog = self.catalog(allow_cache, request)?;
        let targets = match of_view(&catalog, &self.config, view) {
            Err(error) if error.kind() == ErrorKind::NeedsFeast => FrameTargets {
                feasts: [(view.to_owned(), error.to_string())].into(),
                ..FrameTargets::default()
            },
            found => found.map_err(|error| {
                let message = format!("Can't recognize feast object with a name {view}");
                no_such(
                    &error,
                    ErrorKind::FeatureViewNotFound,
                    "FeastObjectNotFoundException",
                    &message,
                )
            })?,
        };
        may(&catalog, &views(&targets), Access::WriteOnline)?;
        if rows.is_empty() {
            return Ok(HostedWrite::default());
        }
        self.write(&targets.native, &rows, &catalog, request)?;
        let left = left_to_host(&targets, true, false);
        Ok(HostedWrite {
            allow_registry_cache: allow_cache,
            transform_on_write: transforms,
            ..left
        })
    }

    /// The registry's snapshot, read again first where the client wants no cached one.
    fn catalog(&self, allow_cache: bool, request: &Request) -> Outcome<Arc<Catalog>, Reply> {
        match allow_cache {
            true => Ok(self.registry.latest()),
            false => self.registry.refresh(call(request)).map_err(|error| failure::reply(&error)),
        }
    }

    /// Nothing is written of any view unless all rows are such as all views take.
    fn write(
        &self,
        views: &[String],
        rows: &Rows<'_, '_>,
        catalog: &Arc<Catalog>,
        request: &Request,
    ) -> Outcome<(), Reply> {
        self.try_write(views, rows, catalog, request).map_err(|error| failure::reply(&error))
    }

    fn try_write(
        &self,
        views: &[String],
        rows: &Rows<'_, '_>,
        catalog: &Arc<Catalog>,
        request: &Request,
    ) -> Result<()> {
        let mut parts = Vec::with_capacity(views.len());
        for view in views {
            let plan = self.plans.plan(view, catalog, &self.config)?;
            let batch = rows.batch(&plan)?;
            parts.push((plan, batch));
        }
        let Some(online) = &self.online else {
            return match parts.is_empty() {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::NeedsFeast, "the online store is Feast's")),
            };
        };
        let options = FrameOptions::of(&self.config);
        for (plan, batch) in parts {
            let report = write_frame(&plan, &[batch], options, online.as_ref(), &call(request))?;
            if let Some(nothing) = report.nothing {
                let (view, why) = (report.view, nothing.reason());
                log::warn!("view '{view}': nothing is written of what is given, for {why}");
            }
        }
        Ok(())
    }

    /// Adds the rows to the batch sources of views.
    fn append(
        &self,
        names: &[String],
        catalog: &Catalog,
        table: RecordBatch,
        request: &Request,
    ) -> Result<()> {
        let views = names.iter().map(|name| catalog.view(name)).collect::<Result<Vec<_>>>()?;
        append_frame(&views, &[table], &self.config, &call(request)).map(drop)
    }
}

/// A call with the deadline of the request.
fn call(request: &Request) -> Call<'static> {
    Call { deadline: request.deadline, interrupt: &Uninterrupted }
}

/// Where `to` says that rows go: online, offline, and what takes that.
fn destination(to: &str) -> Outcome<(bool, bool, Access), Reply> {
    match to {
        "online" => Ok((true, false, Access::WriteOnline)),
        "offline" => Ok((false, true, Access::WriteOffline)),
        "online_and_offline" => Ok((true, true, Access::WriteBoth)),
        other => Err(Reply::message(
            422,
            &format!(
                "{other} is not a supported push format. Please specify one of these ['online', \
                 'offline', 'online_and_offline']."
            ),
        )),
    }
}

fn views(targets: &FrameTargets) -> Vec<String> {
    targets.native.iter().chain(targets.feasts.keys()).cloned().collect()
}

/// What is left when the native views are written online.
fn left_to_host(targets: &FrameTargets, is_online: bool, is_offline: bool) -> HostedWrite {
    let mut left = HostedWrite::default();
    if is_online {
        left.online = targets.feasts.clone();
        left.renewed = targets.precomputed.clone();
    }
    if is_offline {
        let is_appendable = |view: &String| targets.appendable.contains(view);
        (left.appended, left.offline) = views(targets).into_iter().partition(is_appendable);
    }
    left
}

/// The answer where something is not there, in Feast's words for it; or to another error.
#[cold]
fn no_such(error: &Error, kind: ErrorKind, class: &str, message: &str) -> Reply {
    match error.kind() == kind {
        true => {
            let status = if kind == ErrorKind::PushSourceNotFound { 422 } else { 404 };
            failure::of_class(status, class, message)
        }
        false => failure::reply(error),
    }
}
