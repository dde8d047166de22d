//! A source in parts of which each is newer than the next, as its statistics tell: once the
//! newest part has been looked at, its rows of any entity are known to win over all that follow.

use std::collections::HashSet;

use super::scan::Scan;
use super::source::{PinnedFile, SourceFiles};
use super::timestamps::{Moment, TimeWindow};
use crate::error::Result;

/// No source is divided into more parts: each is begun and ended anew.
const MAX_PARTS: u64 = 64;
/// The same for one that is far away, whose row groups are fetched ahead within a part only.
const MAX_FAR_PARTS: u64 = 8;

/// Row groups of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    // The number of the file, and that of the group within it.
    groups: HashSet<(usize, usize)>,
    // Between which event timestamps its rows lie; `None`: nothing is known.
    bounds: Option<(Moment, Moment)>,
}

impl Part {
    /// Whether a row of this event timestamp can be in it, as far as is known.
    pub fn may_have(&self, event: Moment) -> bool {
        self.bounds.is_none_or(|(oldest, newest)| event >= oldest && event <= newest)
    }

    /// Whether it has a group of file `file`.
    pub(super) fn has_file(&self, file: usize) -> bool {
        self.groups.iter().any(|(of, _)| *of == file)
    }

    /// Whether it has group `group` of file `file`.
    pub(super) fn has(&self, file: usize, group: usize) -> bool {
        self.groups.contains(&(file, group))
    }
}

/// A row group that is to be looked at, and between which event timestamps its rows lie.
#[derive(Clone, Copy, Debug)]
struct Dated {
    group: (usize, usize),
    rows: u64,
    bounds: Option<(Moment, Moment)>,
}

/// The parts of `source`, the newest first: together all row groups that may have rows of
/// `window` in their event timestamp column `column`.
pub fn parts_by_time(source: &SourceFiles, column: &str, window: TimeWindow) -> Result<Vec<Part>> {
    let columns = [column.to_owned()];
    let window = Some((column, window));
    let scan = Scan { source, columns: &columns, window, keys: &[], rows: None, batch_bytes: 0 };
    let mut groups = Vec::new();
    for (number, file) in source.files().iter().enumerate() {
        let bounds = scan.event_bounds(file)?;
        for group in scan.group_numbers(file)? {
            let rows = file.metadata.metadata().row_group(group).num_rows();
            groups.push(Dated {
                group: (number, group),
                rows: u64::try_from(rows).unwrap_or(0),
                bounds: bounds
                    .as_ref()
                    .and_then(|(mins, maxes)| Some((mins.get(group)?, maxes.get(group)?))),
            });
        }
    }
    let is_far = source.files().iter().any(PinnedFile::is_far);
    Ok(divide(groups, if is_far { MAX_FAR_PARTS } else { MAX_PARTS }))
}

fn divide(mut groups: Vec<Dated>, max_parts: u64) -> Vec<Part> {
    let rows: u64 = groups.iter().map(|group| group.rows).sum();
    let worth = rows.div_ceil(max_parts);
    // What nothing is known of may be as new as anything.
    groups.sort_by_key(|group| std::cmp::Reverse(group.bounds.map_or(Moment::MAX, |(_, max)| max)));
    let mut parts = Vec::new();
    let (mut part, mut part_rows) = (Part::default(), 0);
    let mut left = groups.into_iter().peekable();
    while let Some(Dated { group, rows, bounds }) = left.next() {
        part.bounds = match part.groups.is_empty() {
            true => bounds,
            // The first of a part is the one with the newest rows.
            false => part.bounds.zip(bounds).map(|(all, one)| (all.0.min(one.0), all.1)),
        };
        part.groups.insert(group);
        part_rows += rows;
        let next = left.peek().map(|next| next.bounds);
        let is_newer = match (part.bounds, next) {
            (Some((oldest, _)), Some(Some((_, next)))) => next < oldest,
            _ => false,
        };
        if next.is_none() || is_newer && part_rows >= worth {
            parts.push(std::mem::take(&mut part));
            part_rows = 0;
        }
    }
    parts
}

impl SourceFiles {
    /// Whether `column` has no nulls, and nothing that is taken for one: as far as its statistics
    /// tell, which count no NaN.
    pub fn has_no_nulls(&self, column: &str) -> bool {
        self.files().iter().all(|file| has_no_nulls(file, column))
    }
}

fn has_no_nulls(file: &PinnedFile, column: &str) -> bool {
    let metadata = file.metadata.metadata();
    let schema = metadata.file_metadata().schema_descr();
    let mut leaves = (0..schema.num_columns())
        .filter(|&leaf| schema.column(leaf).path().parts().first().is_some_and(|p| p == column));
    let (Some(leaf), None) = (leaves.next(), leaves.next()) else { return false };
    if file.column_type(column).is_none_or(|data_type| data_type.is_floating()) {
        return false;
    }
    metadata.row_groups().iter().all(|group| {
        let statistics = group.column(leaf).statistics();
        statistics.is_some_and(|found| found.null_count_opt() == Some(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(groups: &[(u64, Option<(i64, i64)>)]) -> Vec<Vec<usize>> {
        let dated = groups.iter().enumerate().map(|(group, &(rows, bounds))| Dated {
            group: (0, group),
            rows,
            bounds: bounds.map(|(min, max)| (Moment::from_micros(min), Moment::from_micros(max))),
        });
        let sorted = |part: Part| {
            let mut groups: Vec<_> = part.groups.into_iter().map(|(_, group)| group).collect();
            groups.sort_unstable();
            groups
        };
        divide(dated.collect(), MAX_PARTS).into_iter().map(sorted).collect()
    }

    #[test]
    fn groups_of_other_times_are_parts_the_newest_first() {
        let rows = 9;
        assert_eq!(
            parts(&[(rows, Some((0, 9))), (rows, Some((10, 19))), (rows, Some((20, 29)))]),
            [[2], [1], [0]]
        );
        let overlap = [(rows, Some((0, 9))), (rows, Some((5, 19))), (rows, Some((20, 29)))];
        assert_eq!(parts(&overlap), [vec![2], vec![0, 1]]);
        // Rows of one time may be in both: which of them wins is not told by time alone.
        assert_eq!(parts(&[(rows, Some((0, 9))), (rows, Some((9, 19)))]), [[0, 1]]);
    }

    #[test]
    fn what_nothing_is_known_of_may_be_anything() {
        let rows = 9;
        assert_eq!(
            parts(&[(rows, Some((0, 9))), (rows, None), (rows, Some((20, 29)))]),
            [[0, 1, 2]]
        );
        assert!(parts(&[]).is_empty());
    }

    #[test]
    fn small_groups_are_put_together() {
        let dated = |group: i64| (1, Some((10 * group, 10 * group + 9)));
        let groups: Vec<_> = (0..160).map(dated).collect();
        let divided = parts(&groups);

        assert_eq!(divided[0], [157, 158, 159]);
        assert!(divided.len() == 54 && divided[53] == [0]);
        let many: Vec<_> =
            (0..1_000).map(|group| (group, Some((group as i64, group as i64)))).collect();
        assert!(parts(&many).len() as u64 <= MAX_PARTS);
    }
}
