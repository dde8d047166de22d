//! What a read found, as it lies in memory, and the answer: columns are made of it when they
//! are asked for, since whoever wants Python objects or a matrix needs none. Pure.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arrow_array::UInt32Array;
use smallvec::SmallVec;

use crate::error::{Error, ErrorKind, Result};
use crate::value::Column;
use crate::value::wire::PlainValues;

use super::answer::{FeatureVector, OnlineFeatures, Statuses};
use super::columns::FoundView;
use super::plan::{PlanColumn, ReadPlan};
use super::read::Entities;

/// For each group, which key each row of the request asked for; `None`: row `i` is key `i`.
pub(super) type RowMaps = SmallVec<[Option<UInt32Array>; 1]>;

/// Everything that was found: the views of each group, which begin at `firsts`.
pub struct Found {
    pub(super) views: SmallVec<[FoundView; 1]>,
    pub(super) firsts: SmallVec<[usize; 2]>,
}

/// The answer to one read.
pub struct Answer {
    form: Form,
    store_time: Option<StoreTime>,
}

/// How long a read was with the store.
#[derive(Clone, Copy, Debug)]
pub struct StoreTime {
    /// When it was asked.
    pub begun: Instant,
    /// When the last row had come.
    pub ended: Instant,
}

enum Form {
    Found(Box<FoundAnswer>),
    Whole(OnlineFeatures),
}

struct FoundAnswer {
    plan: Arc<ReadPlan>,
    entities: Entities,
    row_maps: RowMaps,
    // No key was asked for twice: what was found has the rows of the request.
    is_direct: bool,
    found: Found,
    whole: OnceLock<OnlineFeatures>,
}

/// How many values of a view were there, and how many were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Values with the status `PRESENT`.
    pub present: usize,
    /// Values with the status `NOT_FOUND`.
    pub not_found: usize,
}

/// The values of one column of an answer, row by row.
pub enum Values<'a> {
    /// All there.
    Plain(PlainValues<'a>),
    /// Any.
    Column(&'a Column),
}

/// One column of an answer, with all that belongs to it.
pub struct AnswerColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// One value for each row.
    pub values: Values<'a>,
    /// One status for each row; `None`: all are `PRESENT`.
    pub statuses: Option<&'a Statuses>,
    /// When each row's values were true, microseconds since the epoch; features of one view share
    /// it. `None`: a column of the request, of no time.
    pub event_timestamps: Option<&'a Arc<Vec<i64>>>,
}

impl From<OnlineFeatures> for Answer {
    fn from(whole: OnlineFeatures) -> Self {
        Answer { form: Form::Whole(whole), store_time: None }
    }
}

impl Answer {
    /// The answer for `entities`, of what was found for them.
    pub(super) fn new(
        plan: Arc<ReadPlan>,
        entities: Entities,
        row_maps: RowMaps,
        found: Found,
    ) -> Self {
        let whole = OnceLock::new();
        let is_direct = row_maps.iter().all(Option::is_none);
        let found = FoundAnswer { plan, entities, row_maps, is_direct, found, whole };
        Answer { form: Form::Found(Box::new(found)), store_time: None }
    }

    /// The same, which took so long to read.
    pub(super) fn read_in(self, store_time: StoreTime) -> Self {
        Answer { store_time: Some(store_time), ..self }
    }

    /// How long it was with the store; `None`: it was made otherwise.
    pub fn store_time(&self) -> Option<StoreTime> {
        self.store_time
    }

    /// Rows of the request.
    pub fn rows(&self) -> usize {
        match &self.form {
            Form::Found(found) => found.entities.rows,
            Form::Whole(whole) => whole.rows,
        }
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        match &self.form {
            Form::Found(found) => self.join_keys() + found.plan.columns.len(),
            Form::Whole(whole) => whole.vectors.len(),
        }
    }

    /// How many of the columns, the first ones, are join keys.
    pub fn join_keys(&self) -> usize {
        match &self.form {
            Form::Found(found) => found.entities.columns.len(),
            Form::Whole(whole) => whole.join_keys,
        }
    }

    /// What became of the features of each view that was read from the store, in the order of
    /// the plan's groups; nothing for an answer that was made otherwise.
    pub fn tallies(&self) -> impl Iterator<Item = Tally> + '_ {
        let found = match &self.form {
            Form::Found(found) => Some(found),
            Form::Whole(_) => None,
        };
        found.into_iter().flat_map(|found| {
            let groups = found.found.groups().zip(&found.row_maps);
            groups.flat_map(|(views, rows)| views.iter().map(|view| view.tally(rows.as_ref())))
        })
    }

    /// The values of column `index`, join keys first.
    pub fn values(&self, index: usize) -> Result<Values<'_>> {
        let values = match &self.form {
            Form::Found(found) if found.is_direct => found.values(index),
            _ => self.whole()?.vectors.get(index).map(|vector| Values::Column(&vector.column)),
        };
        values.ok_or_else(|| no_such_column(index))
    }

    /// Column `index`, join keys first.
    pub fn column(&self, index: usize) -> Result<AnswerColumn<'_>> {
        let column = match &self.form {
            Form::Found(found) if found.is_direct => found.column(index),
            _ => self.whole()?.vectors.get(index).map(AnswerColumn::of),
        };
        column.ok_or_else(|| no_such_column(index))
    }

    /// The whole answer in columns.
    pub fn whole(&self) -> Result<&OnlineFeatures> {
        match &self.form {
            Form::Found(found) => found.whole(),
            Form::Whole(whole) => Ok(whole),
        }
    }

    /// The whole answer in columns.
    pub fn into_whole(self) -> Result<OnlineFeatures> {
        match self.form {
            Form::Found(mut found) => {
                found.whole()?;
                found.whole.take().ok_or_else(|| no_such_column(0))
            }
            Form::Whole(whole) => Ok(whole),
        }
    }
}

impl<'a> AnswerColumn<'a> {
    fn of(vector: &'a FeatureVector) -> Self {
        AnswerColumn {
            name: &vector.name,
            values: Values::Column(&vector.column),
            statuses: Some(&vector.statuses),
            event_timestamps: Some(&vector.event_timestamps),
        }
    }
}

impl FoundAnswer {
    fn values(&self, index: usize) -> Option<Values<'_>> {
        let keys = &self.entities.columns;
        match keys.get(index) {
            Some((_, column)) => Some(Values::Column(column)),
            None => self.found.values(self.plan.columns.get(index - keys.len())?),
        }
    }

    fn column(&self, index: usize) -> Option<AnswerColumn<'_>> {
        let keys = &self.entities.columns;
        let Some((key, column)) = keys.get(index) else {
            let planned = self.plan.columns.get(index - keys.len())?;
            let view = self.found.view(planned)?;
            return Some(AnswerColumn {
                name: &planned.name,
                values: view.values(planned.feature)?,
                statuses: view.statuses(planned.feature),
                event_timestamps: Some(view.event_timestamps()),
            });
        };
        Some(AnswerColumn {
            name: &self.plan.keys.get(*key)?.name,
            values: Values::Column(column),
            statuses: None,
            event_timestamps: None,
        })
    }

    fn whole(&self) -> Result<&OnlineFeatures> {
        if let Some(whole) = self.whole.get() {
            return Ok(whole);
        }
        let entities = &self.entities;
        let no_time = Arc::new(vec![0; entities.rows]);
        let mut vectors = Vec::with_capacity(entities.columns.len() + self.plan.columns.len());
        for (key, column) in &entities.columns {
            let name = &self.plan.keys[*key].name;
            vectors.push(FeatureVector::of_request(name, column.clone(), no_time.clone()));
        }
        vectors.extend(self.found.vectors(&self.plan, &self.row_maps)?);
        let join_keys = entities.columns.len();
        let whole = OnlineFeatures { vectors, join_keys, rows: entities.rows };
        Ok(self.whole.get_or_init(|| whole))
    }
}

impl Found {
    fn view(&self, column: &PlanColumn) -> Option<&FoundView> {
        self.views.get(self.firsts.get(column.group)? + column.view)
    }

    fn values(&self, column: &PlanColumn) -> Option<Values<'_>> {
        self.view(column)?.values(column.feature)
    }

    /// The columns in the plan's order, with the rows of the request.
    fn vectors(
        &self,
        plan: &ReadPlan,
        row_maps: &[Option<UInt32Array>],
    ) -> Result<Vec<FeatureVector>> {
        let times = self.mapped_times(row_maps);
        plan.columns
            .iter()
            .map(|column| {
                let (values, statuses) = self.column(column)?;
                let event_timestamps = times[self.firsts[column.group] + column.view].clone();
                let name = column.name.clone();
                match &row_maps[column.group] {
                    None => Ok(FeatureVector { name, column: values, statuses, event_timestamps }),
                    Some(rows) => Ok(FeatureVector {
                        name,
                        column: values.take(rows)?,
                        statuses: statuses.take(rows),
                        event_timestamps,
                    }),
                }
            })
            .collect()
    }

    fn mapped_times(&self, row_maps: &[Option<UInt32Array>]) -> Vec<Arc<Vec<i64>>> {
        let mapped = |view: &FoundView, rows: &Option<UInt32Array>| match rows {
            None => view.event_timestamps().clone(),
            Some(rows) => {
                let times = view.event_timestamps();
                Arc::new(rows.values().iter().map(|&row| times[row as usize]).collect())
            }
        };
        let groups = self.groups().zip(row_maps);
        groups.flat_map(|(views, rows)| views.iter().map(move |view| mapped(view, rows))).collect()
    }

    /// The views of each group.
    fn groups(&self) -> impl Iterator<Item = &[FoundView]> {
        let ends = self.firsts.iter().skip(1).copied().chain([self.views.len()]);
        self.firsts.iter().zip(ends).map(|(&first, end)| &self.views[first..end])
    }

    fn column(&self, column: &PlanColumn) -> Result<(Column, Statuses)> {
        let found = self.view(column).and_then(|view| view.column(column.feature));
        found.ok_or_else(|| no_such_column(column.feature))
    }
}

#[cold]
fn no_such_column(index: usize) -> Error {
    Error::new(ErrorKind::Internal, format!("the answer has no column {index}"))
}
