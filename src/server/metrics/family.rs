//! The instruments of one name, told apart by their labels. Finding one takes a lock that only
//! a new set of labels holds for long; who counts often keeps what it found.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::instrument::{Counter, Gauge, Histogram, Scale};

/// Past this many sets of labels in one family, more are not told apart: labels come from
/// requests, and memory is bounded.
const MAX_SERIES: usize = 10_000;

/// Values of the labels, in the family's order.
pub type Labels = Box<[Box<str>]>;

/// What a family says of itself.
#[derive(Debug)]
pub struct Description {
    /// The name, as it is scraped.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// Names of the labels.
    pub labels: &'static [&'static str],
}

/// A family of instruments `M`.
#[derive(Debug)]
pub struct Family<M> {
    pub(super) description: Description,
    make: Make<M>,
    series: RwLock<BTreeMap<Labels, Arc<M>>>,
}

/// How a new instrument of a family is made.
#[derive(Debug)]
enum Make<M> {
    Default(fn() -> M),
    Scaled(&'static Scale, fn(&'static Scale) -> M),
}

impl Family<Counter> {
    /// Counters.
    pub fn counters(description: Description) -> Self {
        Self::new(description, Make::Default(Counter::default))
    }
}

impl Family<Gauge> {
    /// Gauges.
    pub fn gauges(description: Description) -> Self {
        Self::new(description, Make::Default(Gauge::default))
    }
}

impl Family<Histogram> {
    /// Histograms of that scale.
    pub fn histograms(description: Description, scale: &'static Scale) -> Self {
        Self::new(description, Make::Scaled(scale, Histogram::new))
    }
}

impl<M> Family<M> {
    fn new(description: Description, make: Make<M>) -> Self {
        Family { description, make, series: RwLock::default() }
    }

    /// The instrument with these labels, made if there is none yet.
    pub fn with(&self, labels: &[&str]) -> Arc<M> {
        let labels: Labels = labels.iter().map(|&label| label.into()).collect();
        // A panic can't leave the map half changed.
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&labels) {
            return known.clone();
        }
        drop(known);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let labels = match series.len() < MAX_SERIES {
            true => labels,
            false => self.description.labels.iter().map(|_| "…".into()).collect(),
        };
        series.entry(labels).or_insert_with(|| Arc::new(self.make.one())).clone()
    }

    /// All instruments with their labels, in the order of these.
    pub fn all(&self) -> Vec<(Labels, Arc<M>)> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.iter().map(|(labels, one)| (labels.clone(), one.clone())).collect()
    }
}

impl<M> Make<M> {
    fn one(&self) -> M {
        match self {
            Make::Default(make) => make(),
            Make::Scaled(scale, make) => make(scale),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_labels_are_the_same_counter_and_memory_is_bounded() {
        let description = Description { name: "n", help: "h", labels: &["a"] };
        let family = Family::counters(description);

        family.with(&["x"]).add(1);
        family.with(&["x"]).add(2);
        for number in 0..MAX_SERIES + 5 {
            family.with(&[&number.to_string()]).add(1);
        }

        assert_eq!(family.with(&["x"]).get(), 3);
        assert_eq!(family.all().len(), MAX_SERIES + 1);
        assert_eq!(family.with(&["never seen"]).get(), 6);
    }
}
