//! The labels of each key, in the order of time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use arrow_schema::TimeUnit;

use super::keys::NO_KEY;
use crate::offline::ticks::{Ticks, nanos_per};

/// Stands for no row.
pub const NO_ROW: u64 = u64::MAX;

/// Fewer labels are placed by one thread: starting another takes longer.
const MIN_SHARED: usize = 100_000;
/// Labels of a key that are looked at one by one.
const COUNTED: usize = 16;

/// Labels by key, then by time. A label is known by its place here, or by its row in the frame.
pub struct Timeline {
    /// Key `k` has the places `starts[k]..starts[k + 1]`.
    starts: Vec<u32>,
    times: Vec<i64>,
    rows: Vec<u32>,
    unit: TimeUnit,
    /// How many labels there are, those without key or time included.
    labels: usize,
}

impl Timeline {
    /// Of labels with these keys, whose numbers are below `keys`, and times. Those without key
    /// or time are left out: nothing is known of them. Two threads share the work.
    pub fn new(ids: &[u32], keys: usize, times: &Ticks) -> Self {
        let mut starts = vec![0u32; keys + 1];
        for row in (0..ids.len()).filter(|row| is_placed(ids, times, *row)) {
            starts[ids[row] as usize + 1] += 1;
        }
        for key in 0..keys {
            starts[key + 1] += starts[key];
        }
        let count = starts[keys] as usize;
        // The key in the middle, by labels: each thread places the labels on one side of it.
        let middle = starts.partition_point(|start| (*start as usize) < count / 2).min(keys);
        let (mut in_order, mut rows) = (vec![0; count], vec![0; count]);
        let (low_times, high_times) = in_order.split_at_mut(starts[middle] as usize);
        let (low_rows, high_rows) = rows.split_at_mut(starts[middle] as usize);
        let side = |keys: std::ops::Range<usize>, in_order: &mut [i64], rows: &mut [u32]| {
            place(ids, times, &starts[keys.start..=keys.end], keys.start as u32, in_order, rows);
        };
        if count < MIN_SHARED {
            side(0..middle, low_times, low_rows);
            side(middle..keys, high_times, high_rows);
        } else {
            thread::scope(|scope| {
                scope.spawn(|| side(0..middle, low_times, low_rows));
                side(middle..keys, high_times, high_rows);
            });
        }
        Timeline { starts, times: in_order, rows, unit: times.unit, labels: ids.len() }
    }

    /// How many labels have a place.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether no label has one.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The unit of the labels' times.
    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    /// The places of a key: the first, and the one after the last.
    #[inline]
    pub(super) fn places(&self, key: u32) -> (u32, u32) {
        (self.starts[key as usize], self.starts[key as usize + 1])
    }

    /// Whether any of these places has a label at `time` or after.
    #[inline]
    pub(super) fn has_from(&self, start: u32, end: u32, time: i64) -> bool {
        start < end && self.times[end as usize - 1] >= time
    }

    /// The time of the label at that place.
    #[inline]
    pub(super) fn time_at(&self, place: u32) -> i64 {
        self.times[place as usize]
    }

    /// The first of these places whose label is at `time` or after.
    #[inline]
    pub(super) fn first_from(&self, start: u32, end: u32, time: i64) -> u32 {
        let times = &self.times[start as usize..end as usize];
        let before = match times.len() {
            // Counting has no branch that could be guessed wrong.
            0..=COUNTED => times.iter().map(|label| usize::from(*label < time)).sum(),
            _ => times.partition_point(|label| *label < time),
        };
        start + before as u32
    }

    /// For each label, by its row in the frame, the row that `seen` has for it, or [`NO_ROW`].
    /// `seen[place]` is the newest row in the gap before that label: its time in `unit`, and
    /// its number; `merge` gives the newer of two. A row older than `ttl_micros` before the
    /// label is none.
    pub(super) fn resolve<B: Copy + Sync>(
        &self,
        seen: &[B],
        merge: impl Fn(B, B) -> B + Sync,
        found: impl Fn(B) -> Option<(i64, u64)> + Sync,
        unit: TimeUnit,
        ttl_micros: Option<i64>,
    ) -> Vec<u64> {
        let winners: Vec<AtomicU64> = (0..self.labels).map(|_| AtomicU64::new(NO_ROW)).collect();
        let (label_nanos, row_nanos) =
            (i128::from(nanos_per(self.unit)), i128::from(nanos_per(unit)));
        let ttl = ttl_micros.map(|ttl| i128::from(ttl) * 1_000);
        let resolve = |starts: &[u32]| {
            for key in starts.windows(2) {
                let mut newest: Option<B> = None;
                for place in key[0] as usize..key[1] as usize {
                    let best = newest.map_or(seen[place], |newest| merge(newest, seen[place]));
                    newest = Some(best);
                    let Some((time, row)) = found(best) else { continue };
                    let is_alive = ttl.is_none_or(|ttl| {
                        let label = i128::from(self.times[place]) * label_nanos;
                        i128::from(time) * row_nanos + ttl >= label
                    });
                    if is_alive {
                        winners[self.rows[place] as usize].store(row, Ordering::Relaxed);
                    }
                }
            }
        };
        if self.len() < MIN_SHARED {
            resolve(&self.starts);
        } else {
            let half = self.starts.partition_point(|start| (*start as usize) < self.len() / 2);
            let half = half.min(self.starts.len() - 1);
            thread::scope(|scope| {
                scope.spawn(|| resolve(&self.starts[..=half]));
                resolve(&self.starts[half..]);
            });
        }
        winners.into_iter().map(AtomicU64::into_inner).collect()
    }
}

fn is_placed(ids: &[u32], times: &Ticks, row: usize) -> bool {
    ids[row] != NO_KEY && times.is_valid(row)
}

/// Puts the labels of the keys from `first` on where `starts` has them, each key's in order.
fn place(
    ids: &[u32],
    times: &Ticks,
    starts: &[u32],
    first: u32,
    in_order: &mut [i64],
    rows: &mut [u32],
) {
    let (offset, keys) = (starts[0], starts.len() - 1);
    let mut next: Vec<u32> = starts[..keys].iter().map(|start| start - offset).collect();
    let mut places = vec![(0i64, 0u32); in_order.len()];
    for (row, id) in ids.iter().enumerate() {
        let key = id.wrapping_sub(first) as usize;
        if key < keys && is_placed(ids, times, row) {
            places[next[key] as usize] = (times.values[row], row as u32);
            next[key] += 1;
        }
    }
    for key in starts.windows(2) {
        let places = &mut places[(key[0] - offset) as usize..(key[1] - offset) as usize];
        if !places.is_sorted() {
            places.sort_unstable();
        }
    }
    for (place, (time, row)) in places.into_iter().enumerate() {
        (in_order[place], rows[place]) = (time, row);
    }
}
