//! A source in parts of which each is newer than the next, as its statistics tell, and within its
//! newest row group the times themselves: once the newest part has been looked at, its rows of any
//! entity are known to win over all that follow.

use std::collections::HashSet;
use std::ops::Range;

use super::scan::Scan;
use super::source::{PinnedFile, SourceFiles};
use super::timestamps::{Moment, TimeWindow, Timestamps};
use crate::call::Call;
use crate::error::Result;

/// No source is divided into more parts: each is begun and ended anew.
const MAX_PARTS: u64 = 64;
/// The same for one that is far away, whose row groups are fetched ahead within a part only.
const MAX_FAR_PARTS: u64 = 8;
/// A row group of fewer rows is not divided: it is decided at once.
const MIN_DIVIDED_ROWS: u64 = 1 << 16;
/// The first part of one that is divided has this share of its rows, or more.
const FIRST_SHARE: u64 = 8;
/// Bytes of times that are looked at together.
const TIMES_BYTES: usize = 1 << 20;

/// Row groups of a source, or some rows of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    // The number of the file, and that of the group within it.
    groups: HashSet<(usize, usize)>,
    // The rows of the source that are meant; `None`: all of the groups.
    rows: Option<Range<u64>>,
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

    /// Those of `rows`, which are all of group `group` of file `file`, that are in it.
    pub(super) fn of(&self, file: usize, group: usize, rows: Range<u64>) -> Range<u64> {
        match &self.rows {
            _ if !self.groups.contains(&(file, group)) => rows.start..rows.start,
            None => rows,
            Some(some) => {
                let start = rows.start.max(some.start);
                start..rows.end.min(some.end).max(start)
            }
        }
    }

    /// The rows of `block`, which are some of it.
    fn some(&self, block: Block) -> Part {
        let Block { rows, oldest, newest } = block;
        // What the statistics say has to be true as well: other parts were told from it by them.
        let (least, most) = self.bounds.unwrap_or((Moment::MIN, Moment::MAX));
        let bounds = Some((least.max(oldest), most.min(newest)));
        Part { groups: self.groups.clone(), rows: Some(rows), bounds }
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
pub fn parts_by_time(
    source: &SourceFiles,
    column: &str,
    window: TimeWindow,
    call: &Call<'_>,
) -> Result<Vec<Part>> {
    let columns = [column.to_owned()];
    let window = Some((column, window));
    let scan =
        Scan { source, columns: &columns, window, keys: &[], rows: None, batch_bytes: TIMES_BYTES };
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
    let mut parts = divide(groups, if is_far { MAX_FAR_PARTS } else { MAX_PARTS });
    let is_only = parts.len() == 1;
    if let Some(newest) = parts.first_mut().filter(|part| part.groups.len() == 1 && !is_far) {
        if is_only {
            // What statistics say has told it from no other.
            newest.bounds = None;
        }
        let divided = divide_group(&scan, column, newest, call)?;
        parts.splice(..1, divided);
    }
    Ok(parts)
}

/// Rows that follow each other, and between which event timestamps they lie; without any, the
/// oldest is later than the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    rows: Range<u64>,
    oldest: Moment,
    newest: Moment,
}

impl Block {
    fn new(rows: Range<u64>, times: &Timestamps) -> Self {
        let times = (0..times.len()).filter_map(|row| times.get(row));
        let (oldest, newest) = times.fold((Moment::MAX, Moment::MIN), |(oldest, newest), time| {
            (oldest.min(time), newest.max(time))
        });
        Block { rows, oldest, newest }
    }

    fn join(self, other: Block) -> Block {
        Block {
            rows: self.rows.start.min(other.rows.start)..self.rows.end.max(other.rows.end),
            oldest: self.oldest.min(other.oldest),
            newest: self.newest.max(other.newest),
        }
    }
}

/// The one row group of `part` in two parts, where its last or its first rows are newer than all
/// others, as in files that are sorted by time.
fn divide_group(scan: &Scan<'_>, column: &str, part: &Part, call: &Call<'_>) -> Result<Vec<Part>> {
    let whole = || Ok(vec![part.clone()]);
    if scan.part_rows(part) < MIN_DIVIDED_ROWS {
        return whole();
    }
    let mut blocks = Vec::new();
    scan.run_part(part, &mut |batch| {
        call.check()?;
        let (Some(times), Some(rows)) = (batch.columns.first(), batch.positions.first()) else {
            return Ok(());
        };
        let times = Timestamps::from_array(times, column)?;
        blocks.push(Block::new(rows.clone(), &times));
        Ok(())
    })?;
    let Some((newest, others)) = newest_end(blocks) else { return whole() };
    Ok(vec![part.some(newest), part.some(others)])
}

/// The last of the blocks, or else the first of them, if they are newer than all others; and
/// those.
fn newest_end(mut blocks: Vec<Block>) -> Option<(Block, Block)> {
    let rows = |block: &Block| block.rows.end - block.rows.start;
    let total: u64 = blocks.iter().map(rows).sum();
    for _ in 0..2 {
        // By how many there are: the newest of all blocks but so many of the last.
        let newest: Vec<Moment> = blocks
            .iter()
            .scan(Moment::MIN, |newest, block| {
                *newest = block.newest.max(*newest);
                Some(*newest)
            })
            .collect();
        let mut taken = 0;
        let mut oldest = Moment::MAX;
        for count in (1..blocks.len()).rev() {
            taken += rows(&blocks[count]);
            oldest = blocks[count].oldest.min(oldest);
            if taken > total / 2 {
                break;
            }
            if taken >= total / FIRST_SHARE && newest[count - 1] < oldest {
                let ends = blocks.split_off(count);
                let joined = |blocks: Vec<Block>| blocks.into_iter().reduce(Block::join);
                return joined(ends).zip(joined(blocks));
            }
        }
        blocks.reverse();
    }
    None
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
    fn a_group_is_divided_where_one_of_its_ends_is_newer_than_the_rest() {
        let block = |rows: Range<u64>, oldest, newest| Block {
            rows,
            oldest: Moment::from_micros(oldest),
            newest: Moment::from_micros(newest),
        };
        let sorted: Vec<_> =
            (0..16).map(|i| block(10 * i..10 * i + 10, i as i64, i as i64)).collect();
        let expected = Some((block(140..160, 14, 15), block(0..140, 0, 13)));
        assert_eq!(newest_end(sorted.clone()), expected);
        // As much more as it takes, up to a half.
        let mut overlapping = sorted.clone();
        overlapping[13].newest = Moment::from_micros(14);
        let expected = Some((block(130..160, 13, 15), block(0..130, 0, 12)));
        assert_eq!(newest_end(overlapping.clone()), expected);
        overlapping[2].newest = Moment::from_micros(15);
        assert_eq!(newest_end(overlapping), None);

        let backwards: Vec<_> =
            (0..16).map(|i| block(10 * i..10 * i + 10, -(i as i64), -(i as i64))).collect();
        let expected = Some((block(0..20, -1, 0), block(20..160, -15, -2)));
        assert_eq!(newest_end(backwards), expected);
        assert_eq!(newest_end(vec![block(0..10, 1, 1); 4]), None);
        assert_eq!(newest_end(sorted[..1].to_vec()), None);
        assert_eq!(newest_end(Vec::new()), None);
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
