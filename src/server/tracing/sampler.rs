//! Which traces are recorded.

use super::context::Parent;

/// `OTEL_TRACES_SAMPLER`, of a trace that begins here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// The share of traces that are recorded, by their numbers, so that all who see one decide
    /// alike; from 0 to 1.
    pub ratio: f64,
    /// Whether a trace that began elsewhere is recorded as it was decided there.
    pub follows_parent: bool,
}

impl Default for Sampler {
    fn default() -> Self {
        Sampler { ratio: 1.0, follows_parent: true }
    }
}

impl Sampler {
    /// Whether the trace of that number is recorded.
    pub(super) fn takes(&self, trace_id: [u8; 16], parent: Option<&Parent>) -> bool {
        match parent {
            Some(parent) if self.follows_parent => parent.is_sampled,
            _ => self.ratio >= 1.0 || (number(trace_id) as f64) < self.ratio * 2f64.powi(64),
        }
    }
}

/// The later half of a trace's number, which is the random one.
fn number(trace_id: [u8; 16]) -> u64 {
    u128::from_be_bytes(trace_id) as u64
}

#[cfg(test)]
mod tests {
    use super::super::context::Ids;
    use super::*;

    #[test]
    fn a_share_of_the_traces_is_taken() {
        let ids = Ids::new();
        let taken = |ratio| {
            let sampler = Sampler { ratio, follows_parent: true };
            (0..10_000).filter(|_| sampler.takes(ids.trace_id(), None)).count()
        };
        assert_eq!((taken(0.0), taken(1.0)), (0, 10_000));
        assert!((2_000..3_000).contains(&taken(0.25)));
    }

    #[test]
    fn a_parent_has_decided_unless_it_is_not_asked() {
        let parent = |is_sampled| {
            Some(Parent { trace_id: [1; 16], span_id: [1; 8], is_sampled, state: String::new() })
        };
        let takes =
            |sampler: Sampler, is_sampled| sampler.takes([1; 16], parent(is_sampled).as_ref());
        assert!(takes(Sampler { ratio: 0.0, follows_parent: true }, true));
        assert!(!takes(Sampler::default(), false));
        assert!(takes(Sampler { ratio: 1.0, follows_parent: false }, false));
    }
}
