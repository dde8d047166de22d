//! The join from end to end.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::FieldRef;

use super::explain::explain;
use super::gather::Gather;
use super::labels::Labels;
use super::plan::HistoryPlan;
use super::pool::{Meter, Pool, threads};
use super::search::{ViewSearch, search, searches};
use super::sources::{Sources, feature_field, in_view};
use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};

/// Columns that are read together, at most: more share the cost of opening a row group, fewer
/// share the work better.
const MAX_GATHERED: usize = 32;
/// Tasks for each thread, so that none waits long for the last.
const TASKS_PER_THREAD: usize = 4;

/// What a label takes while it is joined: its key, its place in time, its row; about.
const LABEL_BYTES: usize = 64;
/// What each thread keeps for a label of each view that is searched.
const NEWEST_BYTES: usize = 24;
/// What a value takes, about.
const VALUE_BYTES: usize = 16;
/// Fewer labels are not worth reading the sources again.
const MIN_LABELS_AT_ONCE: usize = 10_000;

/// How a join is done.
#[derive(Clone, Copy)]
pub struct JoinOptions<'a> {
    /// Rows that were created after a label are not seen by it.
    pub filter_by_created: bool,
    /// Told now and then, on the calling thread, how much is done: from 0 to 1.
    pub progress: &'a dyn Fn(f64),
}

/// The columns of a plan, as long as the labels and in their order.
pub struct JoinedColumns {
    /// Names and types.
    pub fields: Vec<FieldRef>,
    /// Values.
    pub arrays: Vec<ArrayRef>,
}

/// A plan whose sources are pinned: what changes from now on is an error.
pub struct Join<'a> {
    plan: &'a HistoryPlan,
    sources: Arc<Sources>,
}

impl<'a> Join<'a> {
    /// Finds and pins the sources of `plan`.
    pub fn open(plan: &'a HistoryPlan, config: &RepoConfig, call: &Call<'_>) -> Result<Self> {
        Ok(Join { plan, sources: Arc::new(Sources::pin(plan, config, call)?) })
    }

    /// The same sources, pinned before, for the same plan.
    pub fn again(plan: &'a HistoryPlan, sources: Arc<Sources>) -> Self {
        Join { plan, sources }
    }

    /// The pinned sources.
    pub fn sources(&self) -> Arc<Sources> {
        self.sources.clone()
    }

    /// Reads what the plan asks for, as it was known at each of `labels`.
    pub fn run(
        &self,
        labels: &Labels,
        options: &JoinOptions<'_>,
        call: &Call<'_>,
    ) -> Result<JoinedColumns> {
        if u32::try_from(labels.len()).is_err() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "more than four billion rows can't be joined at once; give fewer",
            ));
        }
        let sources = &*self.sources;
        let searches = searches(&self.plan.views, sources, labels, options.filter_by_created)?;
        let meter = Meter::default();
        let read = self.plan.columns.iter().map(|column| sources.of(column.view).rows());
        meter.expect(read.sum());
        let watch = || (options.progress)(meter.fraction());
        let pool = Pool { sources: &sources.files, call, watch: &watch };
        search(&searches, &meter, &pool)?;
        gather(self.plan, sources, &searches, &meter, &pool)
    }

    /// What [`Join::run`] would read, in words, one line for each thing.
    pub fn explain(&self, labels: &Labels, filter_by_created: bool) -> Result<String> {
        explain(self.plan, &self.sources, labels, filter_by_created)
    }

    /// How many labels are joined at once within `memory` bytes, the columns that they get
    /// included where `with_answer`.
    pub fn labels_at_once(&self, memory: usize, with_answer: bool) -> usize {
        let views = self.plan.views.len().min(threads() + 1).max(1);
        let columns = if with_answer { self.plan.columns.len() } else { threads() };
        let bytes = LABEL_BYTES + NEWEST_BYTES * threads() * views + columns * VALUE_BYTES;
        (memory / bytes).max(MIN_LABELS_AT_ONCE)
    }
}

fn gather(
    plan: &HistoryPlan,
    sources: &Sources,
    searches: &[ViewSearch<'_>],
    meter: &Meter,
    pool: &Pool<'_>,
) -> Result<JoinedColumns> {
    let wanted = plan.columns.len().div_ceil(threads() * TASKS_PER_THREAD);
    let at_once = wanted.clamp(1, MAX_GATHERED);
    let mut fields: Vec<Option<FieldRef>> = vec![None; plan.columns.len()];
    let mut tasks = Vec::new();
    for (index, view) in plan.views.iter().enumerate() {
        let source = sources.of(index);
        let ranks = searches[index].ranks()?;
        let of_view = |(_, column): &(usize, &super::plan::HistoryColumn)| column.view == index;
        let columns: Vec<_> = plan.columns.iter().enumerate().filter(of_view).collect();
        for some in columns.chunks(at_once) {
            let mut gather = Gather { source, ranks, columns: Vec::new(), fields: Vec::new() };
            for (place, column) in some {
                let name = &view.features[column.feature].source_column;
                let field = feature_field(source, name, &column.name)
                    .map_err(|error| in_view(view, error))?;
                fields[*place] = Some(Arc::new(field.clone()));
                gather.columns.push(name.clone());
                gather.fields.push(field);
            }
            let places: Vec<usize> = some.iter().map(|(place, _)| *place).collect();
            tasks.push((view, gather, places));
        }
    }
    let gathered = pool.run(tasks, |(view, gather, places), call| {
        let arrays = gather.run(meter, call).map_err(|error| in_view(view, error))?;
        Ok(places.into_iter().zip(arrays).collect::<Vec<_>>())
    })?;
    let mut arrays: Vec<Option<ArrayRef>> = vec![None; plan.columns.len()];
    for (place, array) in gathered.into_iter().flatten() {
        arrays[place] = Some(array);
    }
    let missing = || Error::new(ErrorKind::Internal, "a column was not read");
    Ok(JoinedColumns {
        fields: fields.into_iter().collect::<Option<_>>().ok_or_else(missing)?,
        arrays: arrays.into_iter().collect::<Option<_>>().ok_or_else(missing)?,
    })
}
