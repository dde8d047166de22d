//! How the values of a feature are distributed, in the source and online: over the entities that
//! have a row online, whatever its time.
//!
//! Counts of nulls, mean, standard deviation, least and greatest value are of all of them;
//! quantiles, shares of categories and the population stability index of at most
//! [`MAX_ROWS`] of them, drawn with equal chances, so that memory is bounded.

use std::collections::{HashMap, HashSet};

use super::report::{Category, Distribution, Drift, Moments};
use super::sample::mix;
use crate::value::ValueType;
use crate::value::wire::{NOT_A_TIME, Value};

/// Rows that quantiles and shares are made from.
pub const MAX_ROWS: usize = 10_000;
/// Values of both sides that are kept for all features of a view together.
const MAX_CELLS: usize = 1_000_000;
/// Bytes of a text that tell categories apart.
const MAX_TEXT: usize = 64;
/// Categories with a share of their own in the index; numbers of which the source has no more
/// distinct ones than these are categories.
const MAX_CATEGORIES: usize = 20;
/// Categories that a report shows.
const SHOWN_CATEGORIES: usize = 10;
/// Bins of numbers, each with about as many rows of the source.
const BINS: usize = 10;
/// Shares below count as this, or the logarithm of an empty bin would be infinite.
const LEAST_SHARE: f64 = 1e-4;

/// The quantiles that a report shows.
pub const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// Both sides of all features of a view.
pub(super) struct Drifts {
    rows: Reservoir,
    features: Vec<Feature>,
}

impl Drifts {
    /// Of features of these types.
    pub fn new(types: impl ExactSizeIterator<Item = ValueType>, seed: u64) -> Self {
        let size = (MAX_CELLS / types.len().max(1)).clamp(1, MAX_ROWS);
        Drifts {
            rows: Reservoir { size, seed, seen: 0 },
            features: types.map(Feature::new).collect(),
        }
    }

    /// Takes one row: for each feature its serialized values, in the source and online; `None`:
    /// there is none.
    pub fn observe<'v>(&mut self, mut values: impl FnMut(usize) -> (&'v [u8], Option<&'v [u8]>)) {
        let slot = self.rows.next();
        for (index, feature) in self.features.iter_mut().enumerate() {
            let (source, online) = values(index);
            feature.observe(source, online, slot);
        }
    }

    /// What became of each feature.
    pub fn finish(self) -> impl Iterator<Item = Drift> {
        let rows = self.rows.seen;
        self.features.into_iter().map(move |feature| feature.finish(rows))
    }
}

/// Which of many rows are kept: each with the same chance (algorithm R).
struct Reservoir {
    size: usize,
    seed: u64,
    seen: u64,
}

impl Reservoir {
    /// Where the next row is kept, in place of another; `None`: it is not.
    fn next(&mut self) -> Option<usize> {
        let number = self.seen;
        self.seen += 1;
        let slot = match number < self.size as u64 {
            true => number,
            false => mix(self.seed ^ mix(number)) % (number + 1),
        };
        usize::try_from(slot).ok().filter(|slot| *slot < self.size)
    }
}

/// What is looked at of a value.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Number(f64),
    Text(Box<str>),
}

struct Feature {
    // Lists, maps and the like have nulls alone.
    has_cells: bool,
    sides: [Side; 2],
    kept: Vec<[Cell; 2]>,
}

impl Feature {
    fn new(value_type: ValueType) -> Self {
        let has_cells = matches!(
            value_type,
            ValueType::Int32
                | ValueType::Int64
                | ValueType::Float
                | ValueType::Double
                | ValueType::Decimal
                | ValueType::UnixTimestamp
                | ValueType::Bool
                | ValueType::String
        );
        Feature { has_cells, sides: Default::default(), kept: Vec::new() }
    }

    fn observe(&mut self, source: &[u8], online: Option<&[u8]>, slot: Option<usize>) {
        let online = online.unwrap_or_default();
        if !self.has_cells {
            self.sides[0].nulls += u64::from(is_null(source));
            self.sides[1].nulls += u64::from(is_null(online));
            return;
        }
        let expected = cell(source);
        let found = if online == source { expected.clone() } else { cell(online) };
        self.sides[0].add(&expected);
        self.sides[1].add(&found);
        match slot.map(|slot| self.kept.get_mut(slot)) {
            None => {}
            Some(Some(old)) => *old = [expected, found],
            Some(None) => self.kept.push([expected, found]),
        }
    }

    fn finish(self, rows: u64) -> Drift {
        let side = |index: usize| -> Distribution {
            let mut numbers: Vec<f64> =
                self.kept.iter().filter_map(|pair| finite(&pair[index])).collect();
            numbers.sort_unstable_by(f64::total_cmp);
            self.sides[index].finish(&numbers)
        };
        let (source, online) = (side(0), side(1));
        let (psi, categories) = match self.kept.is_empty() {
            true => (None, Vec::new()),
            false => shares(&self.kept),
        };
        Drift { rows, source, online, psi, categories }
    }
}

fn is_null(bytes: &[u8]) -> bool {
    bytes.is_empty() || matches!(Value::parse(bytes), Ok(Value::Null) | Err(_))
}

/// What is no value counts as null, for so it is served at best.
fn cell(bytes: &[u8]) -> Cell {
    match Value::parse(bytes) {
        Ok(Value::Int32(number)) => Cell::Number(f64::from(number)),
        Ok(Value::Int64(number)) => Cell::Number(number as f64),
        Ok(Value::Float(number)) => Cell::Number(f64::from(number)),
        Ok(Value::Double(number)) => Cell::Number(number),
        Ok(Value::UnixTimestamp(seconds)) if seconds != NOT_A_TIME => Cell::Number(seconds as f64),
        Ok(Value::Bool(bool)) => Cell::Text(if bool { "true" } else { "false" }.into()),
        Ok(Value::Text(ValueType::Decimal, text)) => text.parse().map_or(Cell::Null, Cell::Number),
        Ok(Value::Text(_, text)) => Cell::Text(cut(&text).into()),
        _ => Cell::Null,
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn finite(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Number(number) if number.is_finite() => Some(*number),
        _ => None,
    }
}

/// One side of a feature: its finite numbers by Welford's method.
#[derive(Default)]
struct Side {
    nulls: u64,
    count: u64,
    mean: f64,
    squares: f64,
    least: f64,
    greatest: f64,
}

impl Side {
    fn add(&mut self, cell: &Cell) {
        self.nulls += u64::from(*cell == Cell::Null);
        let Some(number) = finite(cell) else { return };
        self.least = if self.count == 0 { number } else { self.least.min(number) };
        self.greatest = if self.count == 0 { number } else { self.greatest.max(number) };
        self.count += 1;
        let before = number - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (number - self.mean);
    }

    fn finish(&self, sorted: &[f64]) -> Distribution {
        let moments = (self.count > 0).then(|| Moments {
            mean: self.mean,
            std: (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).sqrt()),
            min: self.least,
            max: self.greatest,
            quantiles: QUANTILES.map(|share| quantile(sorted, share)),
        });
        Distribution { nulls: self.nulls, moments }
    }
}

/// With linear interpolation, as NumPy and pandas have it by default.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |index: usize| sorted.get(index).or(sorted.last()).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place.floor() as usize), at(place.ceil() as usize));
    low + (high - low) * place.fract()
}

/// The population stability index: over bins with shares `s` of the source and `o` online, the sum
/// of `(o - s) ln(o / s)`. Nulls are a bin of their own. And the largest categories.
fn shares(kept: &[[Cell; 2]]) -> (Option<f64>, Vec<Category>) {
    let numbers: Vec<f64> = kept.iter().filter_map(|pair| finite(&pair[0])).collect();
    let distinct: HashSet<u64> = numbers.iter().map(|number| number.to_bits()).collect();
    if distinct.len() > MAX_CATEGORIES {
        let edges = edges(numbers);
        let bin = |cell: &Cell| match cell {
            Cell::Number(number) => 1 + edges.partition_point(|edge| edge <= number),
            _ => 0,
        };
        return (Some(index(kept, edges.len() + 2, bin)), Vec::new());
    }
    let names = categories(kept);
    let bins = names.len().min(MAX_CATEGORIES);
    let places: HashMap<&str, usize> =
        names[..bins].iter().enumerate().map(|(place, name)| (name.as_str(), 2 + place)).collect();
    let bin = |cell: &Cell| match cell {
        Cell::Null => 0,
        // 1 is all others.
        other => places.get(name(other).as_str()).copied().unwrap_or(1),
    };
    let share = |side: usize, place: usize| {
        kept.iter().filter(|pair| bin(&pair[side]) == place).count() as f64 / kept.len() as f64
    };
    let is_text = numbers.is_empty();
    let shown = if is_text { bins.min(SHOWN_CATEGORIES) } else { 0 };
    let shown = names[..shown].iter().enumerate().map(|(place, name)| Category {
        value: name.clone(),
        source: share(0, 2 + place),
        online: share(1, 2 + place),
    });
    (Some(index(kept, bins + 2, bin)), shown.collect())
}

/// Names of what there is, the most frequent of both sides first.
fn categories(kept: &[[Cell; 2]]) -> Vec<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let cells = kept.iter().flatten().filter(|cell| **cell != Cell::Null);
    cells.for_each(|cell| *counts.entry(name(cell)).or_default() += 1);
    let mut names: Vec<(String, usize)> = counts.into_iter().collect();
    names.sort_unstable_by(|(a, more), (b, fewer)| fewer.cmp(more).then_with(|| a.cmp(b)));
    names.into_iter().map(|(name, _)| name).collect()
}

fn name(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Number(number) => number.to_string(),
        Cell::Text(text) => text.to_string(),
    }
}

/// Where bins begin, the first excepted.
fn edges(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> =
        (1..BINS).map(|bin| quantile(&numbers, bin as f64 / BINS as f64)).collect();
    edges.dedup();
    edges
}

fn index(kept: &[[Cell; 2]], bins: usize, bin: impl Fn(&Cell) -> usize) -> f64 {
    let mut counts = vec![[0_u64; 2]; bins];
    for pair in kept {
        for (side, cell) in pair.iter().enumerate() {
            counts[bin(cell)][side] += 1;
        }
    }
    let part = |counts: &[u64; 2]| {
        if counts == &[0, 0] {
            return 0.0;
        }
        let [source, online] =
            counts.map(|count| (count as f64 / kept.len() as f64).max(LEAST_SHARE));
        (online - source) * (online / source).ln()
    };
    counts.iter().map(part).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(value_type: ValueType, pairs: &[(Value<'_>, Option<Value<'_>>)]) -> Drift {
        let mut drifts = Drifts::new([value_type].into_iter(), 0);
        for (source, online) in pairs {
            let (source, online) = (source.to_bytes(), online.as_ref().map(Value::to_bytes));
            let (source, online) = (source.as_slice(), online.as_deref());
            // The bytes outlive the call.
            drifts.observe(|_| (source, online));
        }
        drifts.finish().next().unwrap()
    }

    fn numbers(pairs: impl Iterator<Item = (f64, f64)>) -> Drift {
        let pairs: Vec<_> =
            pairs.map(|(a, b)| (Value::Double(a), Some(Value::Double(b)))).collect();
        drift(ValueType::Double, &pairs)
    }

    #[test]
    fn moments_and_quantiles_of_numbers() {
        let drift = numbers((1..=101).map(|i| (f64::from(i), f64::from(i) + 1000.0)));

        let (source, online) = (drift.source.moments.unwrap(), drift.online.moments.unwrap());
        assert_eq!((source.mean, source.min, source.max), (51.0, 1.0, 101.0));
        assert!((source.std.unwrap() - 29.300_170_647_967_2).abs() < 1e-9);
        assert_eq!(source.quantiles, [6.0, 26.0, 51.0, 76.0, 96.0]);
        assert_eq!(online.quantiles[2], 1051.0);
        assert!(drift.psi.unwrap() > 3.0, "all in the last bin");
    }

    #[test]
    fn what_is_equal_has_an_index_of_zero_and_a_shift_has_one() {
        let same = numbers((0..1000).map(|i| (f64::from(i), f64::from(i))));
        assert_eq!(same.psi, Some(0.0));
        // A bin of ten empties and another fills: (0.0001 - 0.1) ln(0.001) + 0.1 ln 2, about.
        let shifted =
            numbers((0..1000).map(|i| (f64::from(i), f64::from(if i < 100 { 950 } else { i }))));
        assert!((shifted.psi.unwrap() - (0.0999 * 1000_f64.ln() + 0.1 * 2_f64.ln())).abs() < 1e-2);
        let constant = numbers((0..100).map(|_| (5.0, 4.0)));
        assert!(constant.psi.unwrap() > 10.0);
    }

    #[test]
    fn nulls_and_what_is_not_there_are_a_bin_of_their_own() {
        let online = |i: u32| match i % 4 {
            0 => None,
            1 => Some(Value::Null),
            _ => Some(Value::Int64(i64::from(i))),
        };
        let pairs: Vec<_> = (0..400).map(|i| (Value::Int64(i64::from(i)), online(i))).collect();
        let drift = drift(ValueType::Int64, &pairs);
        assert_eq!((drift.rows, drift.source.nulls, drift.online.nulls), (400, 0, 200));
        assert!(drift.psi.unwrap() > 3.0);
    }

    #[test]
    fn texts_are_categories() {
        let text = |text: &'static str| Value::Text(ValueType::String, text.into());
        let pairs: Vec<_> = (0..100)
            .map(|i| {
                (text(if i < 70 { "a" } else { "b" }), Some(text(if i < 60 { "a" } else { "b" })))
            })
            .collect();
        let drift = drift(ValueType::String, &pairs);
        let shown: Vec<_> =
            drift.categories.iter().map(|c| (c.value.as_str(), c.source, c.online)).collect();
        assert_eq!(shown, [("a", 0.7, 0.6), ("b", 0.3, 0.4)]);
        let expected = -0.1 * (0.6_f64 / 0.7).ln() + 0.1 * (0.4_f64 / 0.3).ln();
        assert!((drift.psi.unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn what_has_no_distribution_has_nulls_alone() {
        let list = || Value::Items(ValueType::Int64List, vec![Value::Int64(1)]);
        let pairs = [(list(), Some(list())), (Value::Null, Some(list())), (list(), None)];
        let drift = drift(ValueType::Int64List, &pairs);
        assert_eq!((drift.source.nulls, drift.online.nulls, drift.psi), (1, 1, None));
        // Neither NaN nor infinity upset the rest.
        let drift = numbers([(1.0, f64::NAN), (3.0, f64::INFINITY)].into_iter());
        assert_eq!(drift.source.moments.unwrap().mean, 2.0);
        assert_eq!(drift.online.moments, None);
    }

    #[test]
    fn of_many_rows_some_are_kept() {
        let drift = numbers((0..50_000).map(|i| (f64::from(i), f64::from(i))));
        let moments = drift.source.moments.unwrap();
        assert_eq!((drift.rows, moments.max), (50_000, 49_999.0));
        assert!((moments.quantiles[2] - 25_000.0).abs() < 1_000.0, "{:?}", moments.quantiles);
    }
}
