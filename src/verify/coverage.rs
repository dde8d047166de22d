//! Which rows of a source belong online: those within the intervals that the registry says are
//! materialized; and which of them may have gone since, by a time to live.

use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::offline::{Moment, TimeWindow};
use crate::registry::{FeatureView, compact_intervals};

/// How far the clocks of a server and of this machine may be apart: a row that expires within it
/// may be gone already.
const CLOCK_SLACK: i64 = 5_000_000;

/// The event timestamps of which rows belong online.
pub(super) struct Coverage(Vec<TimeWindow>);

impl Coverage {
    /// Of `view`, as far as it lies in `window`.
    pub fn new(view: &FeatureView, window: TimeWindow) -> Self {
        let recorded = compact_intervals(&view.materialization_intervals);
        let clipped = recorded.into_iter().map(|(start, end)| TimeWindow {
            start: start.max(window.start),
            end: end.min(window.end),
        });
        Coverage(clipped.filter(|part| part.start <= part.end).collect())
    }

    /// From the first to the last of them; `None`: there are none.
    pub fn hull(&self) -> Option<TimeWindow> {
        let (first, last) = (self.0.first()?, self.0.last()?);
        Some(TimeWindow { start: first.start, end: last.end })
    }

    /// Whether a row of that event timestamp belongs online.
    pub fn contains(&self, event: Moment) -> bool {
        let after = self.0.partition_point(|part| part.start <= event.micros);
        after.checked_sub(1).is_some_and(|part| self.0[part].contains(event))
    }
}

/// When rows that were written may be gone.
#[derive(Default)]
pub(super) struct Expiry {
    // With `field_ttl`: so long after its event timestamp.
    row_ttl: Option<i64>,
    // With `key_ttl_seconds`: so long after it was written.
    key_ttl: Option<i64>,
    // Whether writing an equal row again renews the key's ttl.
    renews: bool,
    recorded: Vec<(i64, i64)>,
    last_update: Option<i64>,
}

impl Expiry {
    /// Of the rows of `view` in the store of `config`.
    pub fn new(view: &FeatureView, config: &RepoConfig) -> Self {
        let OnlineStoreConfig::Redis(redis) = &config.online_store else {
            return Expiry::default();
        };
        let seconds = redis.key_ttl_seconds.filter(|seconds| *seconds > 0);
        Expiry {
            row_ttl: view.ttl.filter(|ttl| redis.field_ttl && *ttl > 0),
            key_ttl: seconds.map(|seconds| {
                i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
            }),
            renews: !redis.equal_timestamps_skip,
            recorded: view.materialization_intervals.clone(),
            last_update: view.last_updated_timestamp,
        }
    }

    /// Whether a row of event timestamp `event` may be gone at `now`.
    pub fn may_be_over(&self, event: i64, now: i64) -> bool {
        let is_over =
            |since: i64, ttl: i64| since.saturating_add(ttl) <= now.saturating_add(CLOCK_SLACK);
        self.row_ttl.is_some_and(|ttl| is_over(event, ttl))
            || self.key_ttl.is_some_and(|ttl| is_over(self.written(event), ttl))
    }

    /// About when the row was written: no registry says so. A run that ends its interval at the
    /// present, as runs do, writes at that time; one into the future was recorded when the view
    /// was last changed, or before.
    fn written(&self, event: i64) -> i64 {
        let runs = self.recorded.iter().filter(|(start, end)| (*start..=*end).contains(&event));
        let ends = runs.map(|(_, end)| self.last_update.map_or(*end, |last| last.min(*end)));
        let written = if self.renews { ends.max() } else { ends.min() };
        written.unwrap_or(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(parts: &[(i64, i64)]) -> Coverage {
        Coverage(parts.iter().map(|&(start, end)| TimeWindow { start, end }).collect())
    }

    #[test]
    fn rows_in_gaps_do_not_count() {
        let coverage = coverage(&[(0, 10), (20, 30)]);
        for (micros, is_inside) in
            [(-1, false), (0, true), (10, true), (11, false), (20, true), (30, true), (31, false)]
        {
            assert_eq!(coverage.contains(Moment::from_micros(micros)), is_inside, "{micros}");
        }
        assert!(!coverage.contains(Moment { micros: 10, nanos: 1 }));
        assert_eq!(coverage.hull(), Some(TimeWindow { start: 0, end: 30 }));
        assert_eq!(Coverage(Vec::new()).hull(), None);
    }

    #[test]
    fn a_row_lives_its_ttl_after_it_happened_or_was_written() {
        const HOUR: i64 = 3_600_000_000;
        let now = 100 * HOUR;
        let by_row = Expiry { row_ttl: Some(HOUR), ..Expiry::default() };
        assert!(by_row.may_be_over(now - HOUR, now) && !by_row.may_be_over(now - HOUR / 2, now));

        let recorded = vec![(0, 10 * HOUR), (5 * HOUR, 99 * HOUR)];
        let by_key = Expiry { key_ttl: Some(2 * HOUR), recorded, ..Expiry::default() };
        assert!(by_key.may_be_over(6 * HOUR, now), "written by the first run alone");
        let renewed = Expiry { renews: true, ..by_key };
        assert!(renewed.may_be_over(HOUR, now) && !renewed.may_be_over(6 * HOUR, now));

        let ahead = Expiry { last_update: Some(50 * HOUR), ..renewed };
        assert!(ahead.may_be_over(6 * HOUR, now), "a run into the future was recorded long ago");
        assert!(!Expiry::default().may_be_over(0, now));
    }
}
