//! "Did you mean": the names closest to one that was not found.

/// At most this many names are suggested.
const MOST: usize = 3;

/// What to append to "X does not exist": the near names, or what there is, or nothing.
/// `plural` names the things: "feature views".
pub(super) fn hint<'a>(name: &str, names: impl Iterator<Item = &'a str>, plural: &str) -> String {
    let mut near: Vec<(usize, &str)> = names
        .map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .collect();
    near.sort_unstable();
    let limit = (name.chars().count() / 3).max(2);
    let close: Vec<&str> = near
        .iter()
        .take_while(|(far, _)| *far <= limit)
        .take(MOST)
        .map(|(_, name)| *name)
        .collect();
    match (close.is_empty(), near.len()) {
        (false, _) => format!("; did you mean {}?", quoted(&close)),
        (true, 0) => format!("; there are no {plural}"),
        (true, count) => {
            let mut all: Vec<&str> = near.iter().map(|(_, name)| *name).collect();
            all.sort_unstable();
            all.truncate(2 * MOST);
            let more = if count > all.len() { ", …" } else { "" };
            format!("; there is {}{more}", quoted(&all))
        }
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// Levenshtein's distance between two names, in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_first_then_what_there_is() {
        let names = ["driver_stats", "driver_hourly_stats", "orders"];
        let hinted = |name| hint(name, names.into_iter(), "feature views");

        assert_eq!(hinted("driver_stat"), "; did you mean 'driver_stats'?");
        assert_eq!(hinted("Orders"), "; did you mean 'orders'?");
        assert_eq!(hinted("zzz"), "; there is 'driver_hourly_stats', 'driver_stats', 'orders'");
        assert_eq!(hint("x", [].into_iter(), "entities"), "; there are no entities");
    }

    #[test]
    fn distance_counts_edits() {
        for (left, right, edits) in [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3)] {
            assert_eq!(distance(left, right), edits);
        }
    }
}
