//! The first pass: keys and times of the sources, to each label's row.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use arrow_schema::TimeUnit;

use super::keys::{KeySet, KeySets};
use super::labels::Labels;
use super::plan::HistoryView;
use super::pool::{Meter, Pool, locked};
use super::sources::{Sources, in_view, key_forms, time_unit};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::asof::{FeatureRows, Matcher, NO_ROW, Ranks};
use crate::offline::ticks::{Ticks, nanos_per};
use crate::offline::{Scan, ScanBatch, ScanGroup, ScanKey, SourceFiles, TimeWindow};

/// The size in memory that batches stay near.
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// A view whose rows are searched.
pub(super) struct ViewSearch<'a> {
    view: &'a HistoryView,
    source: &'a SourceFiles,
    keys: KeySet,
    /// Join keys, event timestamp and, if there is one, created timestamp.
    head: Vec<String>,
    event_unit: TimeUnit,
    created_unit: Option<TimeUnit>,
    /// No row outside can be any label's.
    window: TimeWindow,
    scan_keys: Vec<ScanKey>,
    filter_by_created: bool,
    labels: usize,
    /// Those that no thread has at the moment.
    matchers: Mutex<Vec<AnyMatcher>>,
    groups_left: AtomicUsize,
    ranks: OnceLock<Ranks>,
}

enum AnyMatcher {
    Plain(Matcher<()>),
    Created(Matcher<i64>),
}

impl<'a> ViewSearch<'a> {
    pub fn new(
        view: &'a HistoryView,
        source: &'a SourceFiles,
        labels: &Labels,
        sets: &mut KeySets,
        filter_by_created: bool,
    ) -> Result<Self> {
        let mut prepared = || {
            let keys = sets.of(view, &key_forms(view, source, labels)?, labels)?;
            let event_unit = time_unit(source, &view.event_column)?;
            let created = view.created_column.as_ref();
            let created_unit = created.map(|column| time_unit(source, column)).transpose()?;
            Ok((keys, event_unit, created_unit))
        };
        let (keys, event_unit, created_unit) = prepared().map_err(|error| in_view(view, error))?;
        let mut head: Vec<String> =
            view.join_keys.iter().map(|key| key.source_column.clone()).collect();
        head.push(view.event_column.clone());
        head.extend(view.created_column.clone());
        let scan_keys = keys.scan_keys(&head);
        Ok(ViewSearch {
            view,
            source,
            scan_keys,
            keys,
            head,
            event_unit,
            created_unit,
            window: window(labels, view.ttl_micros),
            filter_by_created: filter_by_created && created_unit.is_some(),
            labels: labels.len(),
            matchers: Mutex::default(),
            groups_left: AtomicUsize::new(0),
            ranks: OnceLock::new(),
        })
    }

    /// The source's rows that labels have won.
    pub fn ranks(&self) -> Result<&Ranks> {
        self.ranks.get().ok_or_else(|| Error::new(ErrorKind::Internal, "a view was not searched"))
    }

    /// How many row groups there are, how many are read, and how many rows those have.
    pub fn extent(&self) -> Result<(usize, usize, u64)> {
        let files = self.source.files().iter();
        let all = files.map(|file| file.metadata.metadata().num_row_groups()).sum();
        let groups = self.scan().groups()?;
        Ok((all, groups.len(), groups.iter().map(ScanGroup::rows).sum()))
    }

    /// The columns of this pass, by their names in the source.
    pub fn columns(&self) -> &[String] {
        &self.head
    }

    pub fn scan(&self) -> Scan<'_> {
        Scan {
            source: self.source,
            columns: &self.head,
            window: Some((&self.view.event_column, self.window)),
            keys: &self.scan_keys,
            rows: None,
            batch_bytes: BATCH_BYTES,
        }
    }

    fn read_group(&self, group: ScanGroup<'_>, meter: &Meter, call: &Call<'_>) -> Result<()> {
        let mut matcher = locked(&self.matchers).pop().unwrap_or_else(|| self.matcher());
        let mut ids = Vec::new();
        self.scan().run_group(group, &mut |batch| {
            call.check()?;
            self.take(&batch, &mut ids, &mut matcher)?;
            meter.add((batch.rows() * self.head.len()) as u64);
            Ok(())
        })?;
        locked(&self.matchers).push(matcher);
        if self.groups_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish()?;
        }
        Ok(())
    }

    fn matcher(&self) -> AnyMatcher {
        let (timeline, unit) = (self.keys.timeline.clone(), self.event_unit);
        match self.created_unit {
            None => AnyMatcher::Plain(Matcher::new(timeline, unit, self.filter_by_created)),
            Some(_) => AnyMatcher::Created(Matcher::new(timeline, unit, self.filter_by_created)),
        }
    }

    fn take(&self, batch: &ScanBatch, ids: &mut Vec<u32>, matcher: &mut AnyMatcher) -> Result<()> {
        let (keys, times) = batch.columns.split_at(self.view.join_keys.len());
        let [event, created @ ..] = times else {
            return Err(Error::new(ErrorKind::Internal, "a batch came without its timestamps"));
        };
        self.keys.find(keys, batch.rows(), ids)?;
        let events = Ticks::read(event, &self.view.event_column)?.in_finer(self.event_unit);
        let created = match (created.first(), &self.view.created_column, self.created_unit) {
            (Some(array), Some(name), Some(unit)) => Some(Ticks::read(array, name)?.in_finer(unit)),
            _ => None,
        };
        let rows = FeatureRows { ids, events: &events, created: created.as_ref() };
        match matcher {
            AnyMatcher::Plain(matcher) => matcher.observe(&rows, batch.row_numbers()),
            AnyMatcher::Created(matcher) => matcher.observe(&rows, batch.row_numbers()),
        }
        Ok(())
    }

    /// Puts together what the threads have seen.
    fn finish(&self) -> Result<()> {
        let mut seen = std::mem::take(&mut *locked(&self.matchers)).into_iter();
        let ttl = self.view.ttl_micros;
        let winners = match seen.next() {
            None => vec![NO_ROW; self.labels],
            Some(AnyMatcher::Plain(mut all)) => {
                seen.for_each(|other| match other {
                    AnyMatcher::Plain(other) => all.merge(&other),
                    AnyMatcher::Created(_) => {}
                });
                all.finish(ttl)
            }
            Some(AnyMatcher::Created(mut all)) => {
                seen.for_each(|other| match other {
                    AnyMatcher::Created(other) => all.merge(&other),
                    AnyMatcher::Plain(_) => {}
                });
                all.finish(ttl)
            }
        };
        // It is set by whoever reads the last group, and by nobody else.
        let _ = self.ranks.set(Ranks::of(&winners, self.source.rows())?);
        Ok(())
    }
}

/// Prepares the search of every view, and runs all of them at once.
pub(super) fn search(searches: &[ViewSearch<'_>], meter: &Meter, pool: &Pool<'_>) -> Result<()> {
    let scans: Vec<Scan<'_>> = searches.iter().map(ViewSearch::scan).collect();
    let mut tasks = Vec::new();
    for (search, scan) in searches.iter().zip(&scans) {
        let groups = scan.groups().map_err(|error| in_view(search.view, error))?;
        search.groups_left.store(groups.len(), Ordering::Release);
        if groups.is_empty() {
            search.finish()?;
        }
        for group in groups {
            meter.expect(group.rows() * search.head.len() as u64);
            tasks.push((search, group));
        }
    }
    let read = |(search, group): (&ViewSearch<'_>, ScanGroup<'_>), call: &Call<'_>| {
        search.read_group(group, meter, call).map_err(|error| in_view(search.view, error))
    };
    pool.run(tasks, read).map(drop)
}

/// When rows have to be to be seen by a label.
fn window(labels: &Labels, ttl_micros: Option<i64>) -> TimeWindow {
    let Some((first, last)) = labels.times.range() else { return TimeWindow { start: 1, end: 0 } };
    let nanos = i128::from(nanos_per(labels.times.unit));
    let micros = |ticks: i64| (i128::from(ticks) * nanos).div_euclid(1_000);
    let clamped = |micros: i128| {
        i64::try_from(micros.clamp(i128::from(i64::MIN), i128::from(i64::MAX))).unwrap_or(i64::MAX)
    };
    let start = ttl_micros.map_or(i64::MIN, |ttl| clamped(micros(first) - i128::from(ttl)));
    // A nanosecond past a whole microsecond is in the next.
    TimeWindow { start, end: clamped(micros(last) + 1) }
}

/// The searches of all views of a plan.
pub(super) fn searches<'a>(
    views: &'a [HistoryView],
    sources: &'a Sources,
    labels: &Labels,
    filter_by_created: bool,
) -> Result<Vec<ViewSearch<'a>>> {
    let mut sets = KeySets::default();
    let search = |(index, view): (usize, &'a HistoryView)| {
        ViewSearch::new(view, sources.of(index), labels, &mut sets, filter_by_created)
    };
    views.iter().enumerate().map(search).collect()
}
