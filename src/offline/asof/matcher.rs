//! Finds, while feature rows stream by in any order, the newest of them for each label.

use std::hint::black_box;
use std::sync::Arc;

use arrow_schema::TimeUnit;

use super::keys::NO_KEY;
use super::timeline::Timeline;
use crate::offline::ticks::{Ticks, rounded_up};

/// A created timestamp, where the source has one: it decides between rows of one event time.
pub trait Created: Copy + Ord + Send + Sync {
    /// Loses against any other.
    const NONE: Self;
    /// That of `row`.
    fn at(created: Option<&Ticks>, row: usize) -> Self;
}

impl Created for () {
    const NONE: Self = ();
    #[inline]
    fn at(_: Option<&Ticks>, _: usize) -> Self {}
}

impl Created for i64 {
    const NONE: Self = i64::MIN;
    #[inline]
    fn at(created: Option<&Ticks>, row: usize) -> Self {
        created.and_then(|created| created.get(row)).unwrap_or(Self::NONE)
    }
}

/// The newest row of a gap between two labels of a key, and its number plus one; 0: none yet.
/// The order of the fields is the rule: event time, then created time, then the later row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Newest<C> {
    event: i64,
    created: C,
    row_after: u64,
}

/// Some feature rows.
pub struct FeatureRows<'a> {
    /// The number of each row's key.
    pub ids: &'a [u32],
    /// Their event times.
    pub events: &'a Ticks,
    /// Their created times; `None`: the source has none.
    pub created: Option<&'a Ticks>,
}

/// A row on its way to its place.
struct Waiting {
    row: usize,
    number: u64,
    seen_from: i64,
    /// The first and the last place of its key; in the end `start` is its own.
    start: u32,
    end: u32,
}

/// Rows that are worked on at once: what they read stays in the nearest cache.
const BLOCK: usize = 256;

/// The newest rows so far.
pub struct Matcher<C> {
    timeline: Arc<Timeline>,
    /// Rows that were created after a label are not seen by it.
    filter_by_created: bool,
    newest: Vec<Newest<C>>,
    unit: TimeUnit,
}

impl<C: Created> Matcher<C> {
    /// For the labels of `timeline` and rows whose event times come in `unit`.
    pub fn new(timeline: Arc<Timeline>, unit: TimeUnit, filter_by_created: bool) -> Self {
        let none = Newest { event: i64::MIN, created: C::NONE, row_after: 0 };
        let newest = vec![none; timeline.len()];
        Matcher { timeline, filter_by_created, newest, unit }
    }

    /// Takes some rows; `numbers` are their numbers in the source.
    ///
    /// In small blocks, and in steps over each: what a step reads is all over memory, and the
    /// processor waits for many reads at once as long as none decides about the next.
    pub fn observe(&mut self, rows: &FeatureRows<'_>, numbers: impl Iterator<Item = u64>) {
        let mut waiting: Vec<Waiting> = Vec::with_capacity(BLOCK);
        for (row, (&id, number)) in rows.ids.iter().zip(numbers).enumerate() {
            if id != NO_KEY
                && rows.events.is_valid(row)
                && let Some(seen_from) = self.seen_from(rows, row)
            {
                let (start, end) = self.timeline.places(id);
                waiting.push(Waiting { row, number, seen_from, start, end });
            }
            if waiting.len() == BLOCK {
                self.place(rows, &mut waiting);
            }
        }
        self.place(rows, &mut waiting);
    }

    /// From when on a row is seen, in the labels' unit. `None`: never.
    #[inline]
    fn seen_from(&self, rows: &FeatureRows<'_>, row: usize) -> Option<i64> {
        let event = rows.events.values[row];
        let unit = self.timeline.unit();
        let event = if self.unit == unit { event } else { rounded_up(event, self.unit, unit)? };
        if !self.filter_by_created {
            return Some(event);
        }
        let created = rows.created?;
        Some(event.max(rounded_up(created.get(row)?, created.unit, unit)?))
    }

    fn place(&mut self, rows: &FeatureRows<'_>, waiting: &mut Vec<Waiting>) {
        // Most rows of a long history are older than every label of their key, or newer.
        waiting.retain(|one| self.timeline.has_from(one.start, one.end, one.seen_from));
        self.fetch(waiting, |one| self.timeline.time_at(one.start));
        for one in waiting.iter_mut() {
            one.start = self.timeline.first_from(one.start, one.end, one.seen_from);
        }
        self.fetch(waiting, |one| self.newest[one.start as usize].event);
        for one in waiting.drain(..) {
            let (event, created) = (rows.events.values[one.row], C::at(rows.created, one.row));
            let candidate = Newest { event, created, row_after: one.number + 1 };
            let newest = &mut self.newest[one.start as usize];
            *newest = candidate.max(*newest);
        }
    }

    /// Reads what the next step decides by, so that it is near: none of these reads waits for
    /// another, as they would behind branches.
    fn fetch(&self, waiting: &[Waiting], read: impl Fn(&Waiting) -> i64) {
        black_box(waiting.iter().map(read).fold(0, i64::wrapping_add));
    }

    /// Takes what another has seen of the same source.
    pub fn merge(&mut self, other: &Self) {
        for (newest, other) in self.newest.iter_mut().zip(&other.newest) {
            *newest = (*newest).max(*other);
        }
    }

    /// For each label, by its row in the frame, the number of its feature row, or
    /// [`NO_ROW`](super::NO_ROW). Rows older than `ttl_micros` before the label are none.
    pub fn finish(self, ttl_micros: Option<i64>) -> Vec<u64> {
        let found = |newest: Newest<C>| {
            newest.row_after.checked_sub(1).map(|number| (newest.event, number))
        };
        self.timeline.resolve(&self.newest, Newest::max, found, self.unit, ttl_micros)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;

    use super::super::timeline::NO_ROW;
    use super::*;

    fn ticks(times: &[Option<i64>], unit: TimeUnit) -> Ticks {
        let array: arrow_array::Int64Array = times.iter().copied().collect();
        Ticks { values: array.values().clone(), nulls: array.nulls().cloned(), unit }
    }

    fn timeline(labels: &[(u32, Option<i64>)], unit: TimeUnit) -> Arc<Timeline> {
        let ids: Vec<u32> = labels.iter().map(|label| label.0).collect();
        let times: Vec<Option<i64>> = labels.iter().map(|label| label.1).collect();
        let keys = ids.iter().filter(|id| **id != NO_KEY).max().map_or(0, |id| *id as usize + 1);
        Arc::new(Timeline::new(&ids, keys, &ticks(&times, unit)))
    }

    type Row = (u32, Option<i64>, Option<i64>);

    /// Each label's row, with created times, seen in microseconds.
    fn matched(
        labels: &[(u32, Option<i64>)],
        rows: &[Row],
        ttl: Option<i64>,
        filter_by_created: bool,
    ) -> Vec<Option<u64>> {
        let unit = TimeUnit::Microsecond;
        let (half, rest) = rows.split_at(rows.len() / 2);
        let timeline = timeline(labels, unit);
        let mut seen = [half, rest].map(|part| {
            let mut matcher = Matcher::<i64>::new(timeline.clone(), unit, filter_by_created);
            let ids: Vec<u32> = part.iter().map(|row| row.0).collect();
            let events = ticks(&part.iter().map(|row| row.1).collect::<Vec<_>>(), unit);
            let created = ticks(&part.iter().map(|row| row.2).collect::<Vec<_>>(), unit);
            let start = if std::ptr::eq(part, half) { 0 } else { half.len() as u64 };
            let rows = FeatureRows { ids: &ids, events: &events, created: Some(&created) };
            matcher.observe(&rows, start..start + part.len() as u64);
            matcher
        });
        let [one, other] = &mut seen;
        other.merge(one);
        let [_, all] = seen;
        let found = all.finish(ttl);
        found.into_iter().map(|row| (row != NO_ROW).then_some(row)).collect()
    }

    #[test]
    fn the_newest_row_not_after_the_label_wins() {
        let labels = [(0, Some(10)), (0, Some(5)), (1, Some(10)), (0, Some(10)), (0, Some(1))];
        let rows = [
            (0, Some(10), None),
            (0, Some(5), None),
            (0, Some(11), None),
            (1, Some(2), None),
            (0, Some(3), None),
            (NO_KEY, Some(4), None),
            (1, None, None),
        ];
        let expected = [Some(0), Some(1), Some(3), Some(0), None];
        assert_eq!(matched(&labels, &rows, None, false), expected);
    }

    #[test]
    fn ties_go_to_the_later_created_then_to_the_later_row() {
        let label = [(0, Some(9))];
        let rows = |created: [Option<i64>; 4]| created.map(|created| (0, Some(7), created));
        let winner = |created| matched(&label, &rows(created), None, false)[0];
        assert_eq!(winner([Some(1), Some(3), Some(2), None]), Some(1));
        assert_eq!(winner([Some(3), Some(3), Some(2), None]), Some(1));
        assert_eq!(winner([None; 4]), Some(3));
    }

    #[test]
    fn both_ends_of_the_ttl_are_inside() {
        let labels = [(0, Some(10)), (0, Some(11)), (0, Some(9))];
        let rows = [(0, Some(7), None)];
        assert_eq!(matched(&labels, &rows, Some(3), false), [Some(0), None, Some(0)]);
        assert_eq!(matched(&labels, &rows, Some(4), false), [Some(0), Some(0), Some(0)]);
    }

    #[test]
    fn labels_without_key_or_time_see_nothing() {
        let labels = [(NO_KEY, Some(10)), (0, None), (0, Some(10))];
        let rows = [(0, Some(1), None)];
        assert_eq!(matched(&labels, &rows, None, false), [None, None, Some(0)]);
    }

    #[test]
    fn rows_created_after_the_label_are_not_seen_when_asked_so() {
        let labels = [(0, Some(10)), (0, Some(20))];
        let rows = [(0, Some(5), Some(5)), (0, Some(8), Some(15)), (0, Some(9), None)];
        assert_eq!(matched(&labels, &rows, None, true), [Some(0), Some(1)]);
        assert_eq!(matched(&labels, &rows, None, false), [Some(2), Some(2)]);
    }

    #[test]
    fn units_may_differ_and_nanoseconds_count() {
        let labels = timeline(&[(0, Some(1)), (0, Some(2))], TimeUnit::Microsecond);
        let mut matcher = Matcher::<()>::new(labels, TimeUnit::Nanosecond, false);
        let events = ticks(&[Some(1_000), Some(1_001)], TimeUnit::Nanosecond);
        matcher.observe(&FeatureRows { ids: &[0, 0], events: &events, created: None }, 0..2);
        assert_eq!(matcher.finish(Some(1)), [0, 1]);

        let labels = timeline(&[(0, Some(2_000_000_999))], TimeUnit::Nanosecond);
        let mut matcher = Matcher::<()>::new(labels, TimeUnit::Second, false);
        let events = ticks(&[Some(2), Some(3)], TimeUnit::Second);
        matcher.observe(&FeatureRows { ids: &[0, 0], events: &events, created: None }, 0..2);
        assert_eq!(matcher.finish(None), [0]);
    }
}
