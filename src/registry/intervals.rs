//! Intervals for which a view is materialized, as few as say the same.

/// The intervals in the order of time, those joined that overlap or touch. Times are
/// microseconds since the epoch, both ends inclusive.
pub fn compact_intervals(intervals: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut sorted = intervals.to_vec();
    sorted.sort_unstable();
    let mut compact: Vec<(i64, i64)> = Vec::new();
    for (start, end) in sorted {
        match compact.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => compact.push((start, end)),
        }
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_or_touches_is_joined_and_gaps_stay() {
        assert_eq!(compact_intervals(&[]), []);
        assert_eq!(
            compact_intervals(&[(5, 6), (0, 2), (2, 3), (9, 9), (0, 1), (6, 6)]),
            [(0, 3), (5, 6), (9, 9)]
        );
    }
}
