//! What is counted of the reads of one plan: settled with the plan, so that a read finds no
//! labels and takes no lock.

use std::sync::Arc;

use super::instrument::{Counter, Histogram};
use crate::registry::FeatureService;

/// The instruments of the reads of one plan.
#[derive(Debug)]
pub struct ReadSeries {
    // `None`: not of a server.
    pub(super) latency: Option<Arc<Histogram>>,
    // In the order of the plan's groups, and of the views in each.
    pub(super) views: Box<[ViewStatuses]>,
}

/// How often values of one view were there, and were not.
#[derive(Debug)]
pub(super) struct ViewStatuses {
    pub(super) present: Arc<Counter>,
    pub(super) not_found: Arc<Counter>,
}

/// How much a read asks for, as it is counted (`feast/feature_server.py::_parse_feature_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Features.
    pub features: usize,
    /// Views, whatever their versions.
    pub views: usize,
}

impl Counts {
    /// Of a read of a service.
    pub fn of_service(service: &FeatureService) -> Self {
        let features = service.projections.iter().map(|one| one.features.len()).sum();
        Counts { features, views: service.projections.len() }
    }
}

/// The label `feature_count`: the range that `count` falls into (`feast/feature_server.py`,
/// `bin_feature_count`).
pub(super) fn feature_count(count: usize, bins: &[u64]) -> String {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    if count == 0 {
        return "0".to_owned();
    }
    let upper = bins.iter().position(|upper| count <= *upper);
    let lower_of = |bin: usize| match bin.checked_sub(1).and_then(|before| bins.get(before)) {
        Some(before) => before + 1,
        None => 1,
    };
    match upper {
        Some(bin) => format!("{}-{}", lower_of(bin), bins[bin]),
        None => format!("{}+", lower_of(bins.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::feature_count;

    #[test]
    fn counts_fall_into_ranges_that_include_their_ends() {
        let bins = [10, 50, 200];
        let labels = [0, 1, 10, 11, 50, 51, 200, 201].map(|count| feature_count(count, &bins));
        let expected = ["0", "1-10", "1-10", "11-50", "11-50", "51-200", "51-200", "201+"];
        assert_eq!(labels, expected);
        assert_eq!(feature_count(3, &[]), "1+");
    }
}
