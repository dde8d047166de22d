//! Rows for the offline store that wait for others, so that a source is written once for many
//! pushes, as Feast does it (`feast/feature_server.py::OfflineWriteBatcher`): until there are
//! enough, or the first have waited for long enough. Must not know requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;

use crate::call::Call;
use crate::config::{OfflineBatching, RepoConfig};
use crate::error::Result;
use crate::materialize::frame::append_frame;
use crate::registry::cache::RegistryCache;
use crate::runtime;

/// What waits.
pub(super) struct OfflineBatches {
    config: Arc<RepoConfig>,
    registry: RegistryCache,
    settings: OfflineBatching,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    // By the names of the views that are fed.
    batches: HashMap<Vec<String>, Batch>,
    begun: u64,
}

struct Batch {
    number: u64,
    tables: Vec<RecordBatch>,
    rows: usize,
}

impl OfflineBatches {
    /// For the sources of views in `registry`; `None`: rows are not to wait.
    pub(super) fn new(config: &Arc<RepoConfig>, registry: &RegistryCache) -> Option<Arc<Self>> {
        let settings = config.offline_batching?;
        Some(Arc::new(OfflineBatches {
            config: config.clone(),
            registry: registry.clone(),
            settings,
            waiting: Mutex::default(),
        }))
    }

    /// Takes rows for the sources of `views`.
    ///
    /// Errors: the runtime can't be started.
    pub(super) fn keep(self: &Arc<Self>, views: Vec<String>, table: RecordBatch) -> Result<()> {
        let runtime = runtime::handle()?;
        let mut waiting = self.lock();
        let Waiting { batches, begun } = &mut *waiting;
        let batch = batches.entry(views.clone()).or_insert_with(|| {
            *begun += 1;
            let (batches, number) = (self.clone(), *begun);
            let views = views.clone();
            runtime.spawn(async move {
                tokio::time::sleep(batches.settings.interval).await;
                if let Some(batch) = batches.take(&views, number) {
                    batches.write(views, batch).await;
                }
            });
            Batch { number, tables: Vec::new(), rows: 0 }
        });
        batch.rows += table.num_rows();
        batch.tables.push(table);
        if batch.rows >= self.settings.rows
            && let Some(batch) = batches.remove(&views)
        {
            let batches = self.clone();
            runtime.spawn(async move { batches.write(views, batch).await });
        }
        Ok(())
    }

    /// Writes all that waits.
    pub(super) async fn flush(&self) {
        let batches = std::mem::take(&mut self.lock().batches);
        for (views, batch) in batches {
            self.write(views, batch).await;
        }
    }

    /// The batch of that number, if it still waits.
    fn take(&self, views: &[String], number: u64) -> Option<Batch> {
        let mut waiting = self.lock();
        let is_there = waiting.batches.get(views).is_some_and(|batch| batch.number == number);
        is_there.then(|| waiting.batches.remove(views))?
    }

    /// Whoever pushed the rows has had their answer: what goes wrong is logged, as in Feast.
    async fn write(&self, views: Vec<String>, batch: Batch) {
        // Tables with the same columns in a row are written together.
        for alike in batch.tables.chunk_by(|one, other| one.schema() == other.schema()) {
            let written = runtime::block(|| self.append(&views, alike)).await;
            if let Err(error) = written.and_then(std::convert::identity) {
                let rows: usize = alike.iter().map(RecordBatch::num_rows).sum();
                let views = views.join(", ");
                log::error!("{rows} rows that were pushed for {views} are lost: {error}");
            }
        }
    }

    fn append(&self, views: &[String], tables: &[RecordBatch]) -> Result<()> {
        let catalog = self.registry.latest();
        let views = views.iter().map(|name| catalog.view(name)).collect::<Result<Vec<_>>>()?;
        append_frame(&views, tables, &self.config, &Call::unlimited()).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic leaves it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
