//! The labels of each key, in the order of time.

use arrow_schema::TimeUnit;

use super::keys::NO_KEY;
use super::ticks::{Ticks, nanos_per};

/// Stands for no row.
pub const NO_ROW: u64 = u64::MAX;

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
    /// or time are left out: nothing is known of them.
    pub fn new(ids: &[u32], keys: usize, times: &Ticks) -> Self {
        let mut starts = vec![0u32; keys + 1];
        let placed = |row: &usize| ids[*row] != NO_KEY && times.is_valid(*row);
        for row in (0..ids.len()).filter(placed) {
            starts[ids[row] as usize + 1] += 1;
        }
        for key in 0..keys {
            starts[key + 1] += starts[key];
        }
        let count = starts.last().map_or(0, |end| *end as usize);
        let mut places = vec![(0i64, 0u32); count];
        // While places are given out, `starts[k]` is the next of key `k`; in the end the start of
        // the one after it.
        for row in (0..ids.len()).filter(placed) {
            let next = &mut starts[ids[row] as usize];
            places[*next as usize] = (times.values[row], row as u32);
            *next += 1;
        }
        starts.rotate_right(1);
        if let Some(first) = starts.first_mut() {
            *first = 0;
        }
        for key in 0..keys {
            let places = &mut places[starts[key] as usize..starts[key + 1] as usize];
            if !places.is_sorted() {
                places.sort_unstable();
            }
        }
        let (times_in_order, rows) = places.into_iter().unzip();
        Timeline { starts, times: times_in_order, rows, unit: times.unit, labels: ids.len() }
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

    /// The place of the first label of `key` that is at `time` or after.
    #[inline]
    pub(super) fn first_from(&self, key: u32, time: i64) -> Option<usize> {
        let start = *self.starts.get(key as usize)? as usize;
        let end = *self.starts.get(key as usize + 1)? as usize;
        let times = &self.times[start..end];
        // Most rows of a long history are older than every label or newer.
        let place = times.partition_point(|label| *label < time);
        (place < times.len()).then_some(start + place)
    }

    /// For each label, by its row in the frame, the row that `seen` has for it, or [`NO_ROW`].
    /// `seen[place]` is the newest row in the gap before that label: its time in `unit`, and
    /// its number; `merge` gives the newer of two. A row older than `ttl_micros` before the
    /// label is none.
    pub(super) fn resolve<B: Copy>(
        &self,
        seen: &[B],
        merge: impl Fn(B, B) -> B,
        found: impl Fn(B) -> Option<(i64, u64)>,
        unit: TimeUnit,
        ttl_micros: Option<i64>,
    ) -> Vec<u64> {
        let mut winners = vec![NO_ROW; self.labels];
        let (label_nanos, row_nanos) =
            (i128::from(nanos_per(self.unit)), i128::from(nanos_per(unit)));
        let ttl = ttl_micros.map(|ttl| i128::from(ttl) * 1_000);
        for key in self.starts.windows(2) {
            let mut newest: Option<B> = None;
            for place in key[0] as usize..key[1] as usize {
                let best = newest.map_or(seen[place], |newest| merge(newest, seen[place]));
                newest = Some(best);
                let Some((time, row)) = found(best) else { continue };
                let is_alive = ttl.is_none_or(|ttl| {
                    i128::from(time) * row_nanos + ttl
                        >= i128::from(self.times[place]) * label_nanos
                });
                if is_alive {
                    winners[self.rows[place] as usize] = row;
                }
            }
        }
        winners
    }
}
