//! Changes to the bytes of a registry, at wire level: everything that is not changed is
//! carried over byte for byte, so what a newer Feast put there survives.
//!
//! The changes are those of `feast/infra/registry/registry.py::apply_materialization` and of
//! `apply_feature_view` where only the state differs. Must not know files: see `sources`.

use std::collections::HashMap;

use prost::Message;

use super::catalog::ViewState;
use super::fields::{FieldSpan, append, enum_field, fields_of, len_field, replace};
use super::intervals::compact_intervals;
use super::messages::{FeatureViewMeta, Interval, Time};
use super::version_id::new_version_id;
use crate::error::{Error, ErrorKind, Result};

// Fields of `feast.core.Registry`.
const VERSION_ID: u32 = 4;
const LAST_UPDATED: u32 = 5;
const FEATURE_VIEWS: u32 = 6;
const STREAM_FEATURE_VIEWS: u32 = 14;
// Fields of a view, and of its meta data; feature views and stream feature views agree.
const SPEC: u32 = 1;
const SPEC_NAME: u32 = 1;
const SPEC_PROJECT: u32 = 2;
const META: u32 = 2;
const META_LAST_UPDATED: u32 = 2;
const META_INTERVALS: u32 = 3;
const META_STATE: u32 = 6;

/// A change to one feature view or stream feature view.
#[derive(Clone, Debug)]
pub struct Change {
    /// The project of the view.
    pub project: String,
    /// The view's name.
    pub view: String,
    /// What is to be changed.
    pub kind: ChangeKind,
    /// The time of the change, microseconds since the epoch.
    pub now: i64,
}

/// What a [`Change`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Records that rows from `start` to `end` (microseconds since the epoch) are in the
    /// online store; the view becomes available online.
    Materialized {
        /// Where the interval begins.
        start: i64,
        /// Where it ends.
        end: i64,
    },
    /// Sets where the view is in its life.
    State(ViewState),
    /// Joins recorded intervals that overlap or touch. What a newer Feast may have put into
    /// those that are joined is not kept.
    Compacted,
}

impl Change {
    /// The registry `bytes` with the change made, a new version and a new time of update.
    pub fn apply(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let (fields, position) = self.find(bytes)?;
        let list = fields[position].number;
        let view = len_field(list, &self.changed_view(&bytes[fields[position].content.clone()])?);
        let moves = matches!(self.kind, ChangeKind::Materialized { .. });
        let target = match moves {
            // Feast deletes the view from its list and appends it.
            true => fields.iter().rposition(|span| span.number == list).unwrap_or(position),
            false => position,
        };
        let mut spliced = Vec::with_capacity(bytes.len() + 128);
        for (index, span) in fields.iter().enumerate() {
            if index != position {
                spliced.extend_from_slice(&bytes[span.whole.clone()]);
            }
            if index == target {
                spliced.extend_from_slice(&view);
            }
        }
        let version = len_field(VERSION_ID, new_version_id().as_bytes());
        let spliced = replace(&spliced, VERSION_ID, &version)?;
        replace(&spliced, LAST_UPDATED, &time_field(LAST_UPDATED, self.now))
    }

    /// Whether the registry `bytes` has the change: it is lost when somebody who takes no
    /// lock writes back what was read before.
    pub fn is_in(&self, bytes: &[u8]) -> Result<bool> {
        let (fields, position) = self.find(bytes)?;
        let view = &bytes[fields[position].content.clone()];
        let meta = FeatureViewMeta::decode(content(view, META)?)
            .map_err(|error| self.undecodable().with_source(error))?;
        let updated = meta.last_updated_timestamp.as_ref().map(Time::micros);
        if updated.is_none_or(|updated| updated < self.now) {
            return Ok(false);
        }
        Ok(match self.kind {
            ChangeKind::State(state) => u64::try_from(meta.state) == Ok(state_number(state)),
            ChangeKind::Materialized { start, end } => {
                meta.materialization_intervals.contains(&interval(start, end))
            }
            ChangeKind::Compacted => {
                compact_intervals(&intervals(&meta)).len() == meta.materialization_intervals.len()
            }
        })
    }

    /// The top-level fields and the position of the view among them.
    fn find(&self, bytes: &[u8]) -> Result<(Vec<FieldSpan>, usize)> {
        let fields = fields_of(bytes)?;
        for list in [FEATURE_VIEWS, STREAM_FEATURE_VIEWS] {
            for (position, span) in fields.iter().enumerate() {
                if span.number != list || !span.is_len {
                    continue;
                }
                let spec = content(&bytes[span.content.clone()], SPEC)?;
                if content(spec, SPEC_NAME)? == self.view.as_bytes()
                    && content(spec, SPEC_PROJECT)? == self.project.as_bytes()
                {
                    return Ok((fields, position));
                }
            }
        }
        Err(Error::new(
            ErrorKind::FeatureViewNotFound,
            format!("Feature view {} does not exist in project {}", self.view, self.project),
        ))
    }

    fn changed_view(&self, view: &[u8]) -> Result<Vec<u8>> {
        let meta = content(view, META)?;
        let meta = replace(meta, META_LAST_UPDATED, &time_field(META_LAST_UPDATED, self.now))?;
        let meta = match self.kind {
            ChangeKind::State(state) => with_state(&meta, state)?,
            ChangeKind::Compacted => self.compacted(&meta)?,
            ChangeKind::Materialized { start, end } => {
                let interval = len_field(META_INTERVALS, &interval(start, end).encode_to_vec());
                with_state(&append(&meta, META_INTERVALS, &interval)?, ViewState::AvailableOnline)?
            }
        };
        replace(view, META, &len_field(META, &meta))
    }

    fn compacted(&self, meta: &[u8]) -> Result<Vec<u8>> {
        let decoded =
            FeatureViewMeta::decode(meta).map_err(|error| self.undecodable().with_source(error))?;
        let recorded = intervals(&decoded);
        let fields = fields_of(meta)?;
        let spans = fields.iter().filter(|span| span.number == META_INTERVALS);
        let known: HashMap<_, _> = recorded.iter().zip(spans).collect();
        let compact = compact_intervals(&recorded).into_iter().flat_map(|(start, end)| match known
            .get(&(start, end))
        {
            Some(span) => meta[span.whole.clone()].to_vec(),
            None => len_field(META_INTERVALS, &interval(start, end).encode_to_vec()),
        });
        replace(meta, META_INTERVALS, &compact.collect::<Vec<u8>>())
    }

    fn undecodable(&self) -> Error {
        let message = format!("the meta data of feature view '{}' can't be decoded", self.view);
        Error::new(ErrorKind::RegistryInvalid, message)
    }
}

/// The registry `bytes` with the interval from `start` to `end` recorded for `view`, as Feast's
/// `apply_materialization` does it. Times are microseconds since the epoch.
pub fn apply_materialization(
    bytes: &[u8],
    project: &str,
    view: &str,
    (start, end): (i64, i64),
    now: i64,
) -> Result<Vec<u8>> {
    change(project, view, ChangeKind::Materialized { start, end }, now).apply(bytes)
}

/// The registry `bytes` with `view` in `state`. `now` is microseconds since the epoch.
pub fn set_state(
    bytes: &[u8],
    project: &str,
    view: &str,
    state: ViewState,
    now: i64,
) -> Result<Vec<u8>> {
    change(project, view, ChangeKind::State(state), now).apply(bytes)
}

fn change(project: &str, view: &str, kind: ChangeKind, now: i64) -> Change {
    Change { project: project.to_owned(), view: view.to_owned(), kind, now }
}

/// The content of the last field `number` of `message`; empty if there is none.
fn content(message: &[u8], number: u32) -> Result<&[u8]> {
    let fields = fields_of(message)?;
    let found = fields.iter().rev().find(|span| span.number == number && span.is_len);
    Ok(found.map_or(&[], |span| &message[span.content.clone()]))
}

fn with_state(meta: &[u8], state: ViewState) -> Result<Vec<u8>> {
    replace(meta, META_STATE, &enum_field(META_STATE, state_number(state)))
}

fn state_number(state: ViewState) -> u64 {
    match state {
        ViewState::Unspecified => 0,
        ViewState::Created => 1,
        ViewState::Generated => 2,
        ViewState::Materializing => 3,
        ViewState::AvailableOnline => 4,
    }
}

fn time_field(number: u32, micros: i64) -> Vec<u8> {
    len_field(number, &Time::from_micros(micros).encode_to_vec())
}

fn intervals(meta: &FeatureViewMeta) -> Vec<(i64, i64)> {
    let micros = |time: &Option<Time>| time.as_ref().map_or(0, Time::micros);
    let intervals = meta.materialization_intervals.iter();
    intervals.map(|one| (micros(&one.start_time), micros(&one.end_time))).collect()
}

fn interval(start: i64, end: i64) -> Interval {
    Interval { start_time: Some(Time::from_micros(start)), end_time: Some(Time::from_micros(end)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::decode::decode;
    use crate::registry::messages as pb;

    /// A message with a field that no Feast knows, here and in what is inside.
    fn unknown(message: &[u8]) -> Vec<u8> {
        [message, &len_field(900, b"from the future")].concat()
    }

    fn view(name: &str, project: &str) -> Vec<u8> {
        let spec = pb::FeatureViewSpec {
            name: name.to_owned(),
            project: project.to_owned(),
            ..Default::default()
        };
        let meta = pb::FeatureViewMeta {
            created_timestamp: Some(Time::from_micros(1)),
            state: 1,
            ..Default::default()
        };
        let fields = [
            len_field(SPEC, &unknown(&spec.encode_to_vec())),
            len_field(META, &unknown(&meta.encode_to_vec())),
        ];
        unknown(&fields.concat())
    }

    fn registry() -> Vec<u8> {
        unknown(
            &[
                len_field(3, b"1"),
                len_field(VERSION_ID, b"old"),
                len_field(FEATURE_VIEWS, &view("a", "p")),
                len_field(FEATURE_VIEWS, &view("a", "other")),
                len_field(FEATURE_VIEWS, &view("b", "p")),
                len_field(STREAM_FEATURE_VIEWS, &view("s", "p")),
            ]
            .concat(),
        )
    }

    fn count_unknown(bytes: &[u8]) -> usize {
        bytes.windows(15).filter(|window| window == b"from the future").count()
    }

    #[test]
    fn a_materialization_is_recorded_and_nothing_is_lost() {
        let spliced = apply_materialization(&registry(), "p", "a", (-1, 2_000_001), 9).unwrap();
        let catalog = decode(&spliced, "p").unwrap();

        let names: Vec<_> = catalog.views.iter().map(|view| view.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "s"]);
        let view = catalog.view("a").unwrap();
        assert_eq!(view.materialization_intervals, [(-1, 2_000_001)]);
        assert_eq!(view.state, ViewState::AvailableOnline);
        assert_eq!((view.created_timestamp, view.last_updated_timestamp), (Some(1), Some(9)));
        assert_ne!(catalog.version_id, "old");
        assert_eq!(catalog.version_id.len(), 36);
        assert_eq!(count_unknown(&spliced), count_unknown(&registry()));

        let other = decode(&spliced, "other").unwrap();
        assert!(other.view("a").unwrap().materialization_intervals.is_empty());
    }

    #[test]
    fn intervals_add_up_in_stream_views_too() {
        let once = apply_materialization(&registry(), "p", "s", (1, 2), 9).unwrap();
        let twice = apply_materialization(&once, "p", "s", (2, 3), 10).unwrap();
        let catalog = decode(&twice, "p").unwrap();
        assert_eq!(catalog.view("s").unwrap().materialization_intervals, [(1, 2), (2, 3)]);
    }

    #[test]
    fn intervals_are_compacted_and_nothing_else_is_touched() {
        let mut bytes = registry();
        for (start, end) in [(1, 2), (7, 8), (2, 3)] {
            bytes = apply_materialization(&bytes, "p", "a", (start, end), 9).unwrap();
        }
        let compaction = change("p", "a", ChangeKind::Compacted, 10);
        assert!(!compaction.is_in(&bytes).unwrap());
        let spliced = compaction.apply(&bytes).unwrap();
        assert!(compaction.is_in(&spliced).unwrap());
        let catalog = decode(&spliced, "p").unwrap();
        let view = catalog.view("a").unwrap();
        assert_eq!(view.materialization_intervals, [(1, 3), (7, 8)]);
        assert_eq!(view.state, ViewState::AvailableOnline);
        assert_eq!(count_unknown(&spliced), count_unknown(&registry()));
    }

    #[test]
    fn what_is_unknown_of_an_interval_stays_with_it() {
        let unknown = len_field(9004, b"of a newer Feast");
        let raw = |start, end, unknown: &[u8]| {
            len_field(META_INTERVALS, &[&interval(start, end).encode_to_vec(), unknown].concat())
        };
        let meta = [raw(7, 8, &unknown), raw(1, 2, &[]), raw(2, 3, &[])].concat();

        let compact = change("p", "a", ChangeKind::Compacted, 10).compacted(&meta).unwrap();

        assert_eq!(compact, [raw(1, 3, &[]), raw(7, 8, &unknown)].concat());
    }

    #[test]
    fn a_state_is_set_in_place() {
        let spliced = set_state(&registry(), "p", "a", ViewState::Materializing, 9).unwrap();
        let catalog = decode(&spliced, "p").unwrap();
        assert_eq!(catalog.views[0].name, "a");
        assert_eq!(catalog.views[0].state, ViewState::Materializing);
        assert_eq!(count_unknown(&spliced), count_unknown(&registry()));
    }

    #[test]
    fn a_lost_change_is_noticed() {
        let change = change("p", "a", ChangeKind::Materialized { start: 1, end: 2 }, 9);
        let spliced = change.apply(&registry()).unwrap();
        assert!(change.is_in(&spliced).unwrap());
        assert!(!change.is_in(&registry()).unwrap());
        // An equal interval of an earlier run is not this one.
        assert!(!Change { now: 10, ..change }.is_in(&spliced).unwrap());
    }

    #[test]
    fn a_view_that_is_not_there_is_named() {
        let error = set_state(&registry(), "p", "zz", ViewState::Created, 9).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FeatureViewNotFound);
        assert!(set_state(&registry()[..50], "p", "a", ViewState::Created, 9).is_err());
    }
}
