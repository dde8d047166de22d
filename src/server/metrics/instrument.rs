//! Counters, gauges and histograms: atomics, so that counting never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// What was added so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// What it was set to last; 0 before.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// How often a value fell between two bounds, and the sum of all values.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    // For each bound, how many values are at most that and above the one before; then the rest.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a histogram measures, in whole units, for atomics have no fractions.
#[derive(Debug)]
pub struct Scale {
    /// How many units one is.
    pub units: f64,
    /// Upper bounds of the buckets, in ones, growing.
    pub bounds: &'static [f64],
}

impl Histogram {
    /// One that has seen nothing.
    pub fn new(scale: &'static Scale) -> Self {
        let buckets = (0..=scale.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { scale, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts `value`, in units.
    pub fn observe(&self, value: u64) {
        let ones = value as f64 / self.scale.units;
        let bucket = self.scale.bounds.iter().position(|bound| ones <= *bound);
        let bucket = self.buckets.get(bucket.unwrap_or(self.scale.bounds.len()));
        if let Some(bucket) = bucket {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a duration, for a histogram whose units are nanoseconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Whether it has seen nothing.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.load(Ordering::Relaxed) == 0)
    }

    /// For each bound, and last for infinity, how many values are at most that.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.scale.bounds.iter().copied().chain([f64::INFINITY]);
        let mut total = 0;
        bounds.zip(&self.buckets).map(move |(bound, bucket)| {
            total += bucket.load(Ordering::Relaxed);
            (bound, total)
        })
    }

    /// The sum of all values, in ones.
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / self.scale.units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_bound_belongs_to_it() {
        static SCALE: Scale = Scale { units: 1e9, bounds: &[0.005, 0.01] };
        let histogram = Histogram::new(&SCALE);

        for millis in [5, 6, 10, 11] {
            histogram.observe_duration(Duration::from_millis(millis));
        }

        let counts: Vec<_> = histogram.cumulative().collect();
        assert_eq!(counts, [(0.005, 1), (0.01, 3), (f64::INFINITY, 4)]);
        assert!((histogram.sum() - 0.032).abs() < 1e-9);
    }
}
