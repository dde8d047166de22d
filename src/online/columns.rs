//! The columns of one view while its rows come in. Pure; must not know stores.
//!
//! Numbers of eight bytes, which is what most features are, share one allocation for the whole
//! view as long as every value is there in its plain form; a column in which anything else
//! turns up gets a decoder of its own.

use std::sync::Arc;

use arrow_array::UInt32Array;
use arrow_buffer::Buffer;

use super::answer::{Status, Statuses};
use super::assemble::FeastStatuses;
use super::found;
use crate::error::{Error, ErrorKind, Result};
use crate::value::wire::{ColumnDecoder, Decoded, PlainDecoder};
use crate::value::{Column, ValueType};

/// How the features of a view are decoded: settled once for a plan.
#[derive(Clone, Debug, Default)]
pub struct ViewTypes {
    features: Vec<FeatureType>,
    plain: usize,
}

#[derive(Clone, Debug)]
struct FeatureType {
    value_type: ValueType,
    // Its values are of eight bytes; the first is so many columns behind the start of the
    // view's plain values.
    plain: Option<(PlainDecoder, usize)>,
}

pub(super) struct ViewColumns {
    types: Arc<ViewTypes>,
    rows: usize,
    event_timestamps: Vec<i64>,
    // The values of all plain columns, one column after the other, each PRESENT.
    plain: Vec<u64>,
    // For each feature its values, if they are not plain; empty while all are.
    others: Vec<Option<Box<AnyValues>>>,
}

struct AnyValues {
    decoder: ColumnDecoder,
    statuses: Statuses,
}

/// One row as it comes.
pub(super) struct Row<'a> {
    pub(super) event_timestamp: Option<i64>,
    pub(super) values: &'a [Option<&'a [u8]>],
    pub(super) is_too_old: bool,
    pub(super) feast: Option<FeastStatuses>,
}

/// A feature's values, and what became of each.
type FoundColumn = (Column, Statuses);

/// The columns of one view once every row has come.
pub(super) struct FoundView {
    types: Arc<ViewTypes>,
    event_timestamps: Arc<Vec<i64>>,
    plain: Buffer,
    others: Vec<Option<Box<FoundColumn>>>,
}

impl ViewTypes {
    /// Appends a feature.
    pub fn push(&mut self, value_type: ValueType) {
        let plain = PlainDecoder::new(value_type).map(|decoder| (decoder, self.plain));
        self.plain += usize::from(plain.is_some());
        self.features.push(FeatureType { value_type, plain });
    }
}

impl FromIterator<ValueType> for ViewTypes {
    fn from_iter<I: IntoIterator<Item = ValueType>>(value_types: I) -> Self {
        let mut types = ViewTypes::default();
        value_types.into_iter().for_each(|value_type| types.push(value_type));
        types
    }
}

impl ViewColumns {
    pub(super) fn new(types: &Arc<ViewTypes>, rows: usize) -> Self {
        let own = |feature: &FeatureType| (!feature.is_plain()).then(|| feature.turn(&[], rows, 0));
        let others = match types.plain == types.features.len() {
            true => Vec::new(),
            false => types.features.iter().map(own).collect(),
        };
        ViewColumns {
            types: types.clone(),
            rows,
            event_timestamps: Vec::with_capacity(rows),
            plain: vec![0; types.plain * rows],
            others,
        }
    }

    /// Appends a row. An error comes with the index of its feature.
    pub(super) fn push(&mut self, row: &Row<'_>) -> std::result::Result<(), (Error, usize)> {
        let index = self.event_timestamps.len();
        if index >= self.rows {
            let message = "a store gave more rows than were asked for";
            return Err((Error::new(ErrorKind::Internal, message), 0));
        }
        self.event_timestamps.push(row.event_timestamp.unwrap_or(0));
        let Self { types, rows, plain, others, .. } = self;
        for (place, (feature, value)) in types.features.iter().zip(row.values).enumerate() {
            if let Some((decoder, column)) = feature.plain
                && !row.is_too_old
                && others.get(place).is_none_or(Option::is_none)
                && let Some(bits) = value.and_then(|bytes| decoder.decode(bytes))
                && let Some(slot) = plain.get_mut(column * *rows + index)
            {
                *slot = bits;
                continue;
            }
            if others.is_empty() {
                others.resize_with(types.features.len(), || None);
            }
            let any = others[place].get_or_insert_with(|| feature.turn(plain, *rows, index));
            any.push(*value, row).map_err(|error| (error, place))?;
        }
        Ok(())
    }

    /// What came.
    pub(super) fn finish(self) -> Result<FoundView> {
        let finish = |values: AnyValues| {
            Ok::<_, Error>(Box::new((values.decoder.finish()?, values.statuses)))
        };
        let others = self.others.into_iter().map(|other| other.map(|v| finish(*v)).transpose());
        Ok(FoundView {
            others: others.collect::<Result<_>>()?,
            types: self.types,
            event_timestamps: Arc::new(self.event_timestamps),
            plain: Buffer::from_vec(self.plain),
        })
    }
}

impl FeatureType {
    /// A decoder of its own, `before` of the `rows` having come as plain values.
    fn turn(&self, plain: &[u64], rows: usize, before: usize) -> Box<AnyValues> {
        let start = self.plain.map_or(0, |(_, column)| column * rows);
        let values = plain.get(start..start + before).unwrap_or_default();
        Box::new(AnyValues {
            decoder: ColumnDecoder::from_plain(self.value_type, values, rows),
            statuses: Statuses::all_present(before),
        })
    }

    fn is_plain(&self) -> bool {
        self.plain.is_some()
    }
}

impl AnyValues {
    /// Appends any value.
    fn push(&mut self, value: Option<&[u8]>, row: &Row<'_>) -> Result<()> {
        let AnyValues { decoder, statuses } = self;
        let status = match value {
            Some(_) if row.is_too_old => {
                decoder.push_missing();
                Status::OutsideMaxAge
            }
            Some(bytes) => match decoder.push(bytes)? {
                Decoded::Present => Status::Present,
                Decoded::Null if row.feast.is_some() => Status::Present,
                Decoded::Null => Status::NullValue,
            },
            None => {
                decoder.push_missing();
                match row.feast {
                    Some(FeastStatuses::Redis) => Status::Present,
                    _ => Status::NotFound,
                }
            }
        };
        statuses.push(status);
        Ok(())
    }
}

impl FoundView {
    /// When each row's values were true, microseconds since the epoch; 0: there is no row.
    pub(super) fn event_timestamps(&self) -> &Arc<Vec<i64>> {
        &self.event_timestamps
    }

    /// A feature's values as they lie in memory.
    pub(super) fn values(&self, feature: usize) -> Option<found::Values<'_>> {
        if let Some(Some(found)) = self.others.get(feature) {
            return Some(found::Values::Column(&found.0));
        }
        let (decoder, start, rows) = self.plain(feature)?;
        Some(found::Values::Plain(decoder.values(&self.plain, start, rows)?))
    }

    /// What became of a feature's values; `None`: all are `PRESENT`.
    pub(super) fn statuses(&self, feature: usize) -> Option<&Statuses> {
        self.others.get(feature)?.as_ref().map(|found| &found.1)
    }

    /// What became of the values of all features, in `rows` of the request; `None`: each row was
    /// asked for once.
    pub(super) fn tally(&self, rows: Option<&UInt32Array>) -> found::Tally {
        let row_count = rows.map_or(self.event_timestamps.len(), UInt32Array::len);
        let others = self.others.iter().flatten();
        let mut tally = found::Tally::default();
        let mut counted = 0;
        for (_, statuses) in others.map(|other| &**other) {
            counted += 1;
            let mut count = |status| match status {
                Status::Present => tally.present += 1,
                Status::NotFound => tally.not_found += 1,
                _ => {}
            };
            match rows {
                _ if statuses.are_all_present() => tally.present += row_count,
                None => statuses.iter().for_each(&mut count),
                Some(rows) => {
                    rows.values().iter().for_each(|&row| count(statuses.get(row as usize)));
                }
            }
        }
        // The others are plain: all there.
        tally.present += (self.types.features.len() - counted) * row_count;
        tally
    }

    /// A feature's column.
    pub(super) fn column(&self, feature: usize) -> Option<FoundColumn> {
        if let Some(Some(found)) = self.others.get(feature) {
            return Some(FoundColumn::clone(found));
        }
        let (decoder, start, rows) = self.plain(feature)?;
        Some((decoder.column(&self.plain, start, rows), Statuses::all_present(rows)))
    }

    fn plain(&self, feature: usize) -> Option<(PlainDecoder, usize, usize)> {
        let (decoder, column) = self.types.features.get(feature)?.plain?;
        let rows = self.event_timestamps.len();
        Some((decoder, column * rows, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int64Type};

    fn double(value: f64) -> Vec<u8> {
        [&[0x29][..], &value.to_le_bytes()].concat()
    }

    fn columns<const N: usize>(value_types: [ValueType; N], rows: usize) -> ViewColumns {
        ViewColumns::new(&Arc::new(value_types.into_iter().collect()), rows)
    }

    fn push(columns: &mut ViewColumns, values: &[Option<&[u8]>]) {
        let row = Row { event_timestamp: Some(9), values, is_too_old: false, feast: None };
        columns.push(&row).map_err(|(error, _)| error).unwrap();
    }

    #[test]
    fn a_null_among_plain_values_keeps_what_was_there() {
        let mut columns = columns([ValueType::Double, ValueType::Int64], 3);
        let (one, two) = (double(1.0), double(2.0));

        push(&mut columns, &[Some(&one), Some(&[0x20, 5])]);
        push(&mut columns, &[Some(&[]), Some(&[0x20, 6])]);
        push(&mut columns, &[Some(&two), None]);
        let view = columns.finish().unwrap();
        let found = [0, 1].map(|feature| view.column(feature).unwrap());

        assert_eq!(view.event_timestamps()[..], [9, 9, 9]);
        let doubles = found[0].0.values.as_primitive::<Float64Type>();
        assert_eq!(doubles.iter().collect::<Vec<_>>(), [Some(1.0), None, Some(2.0)]);
        let integers = found[1].0.values.as_primitive::<Int64Type>();
        assert_eq!(integers.iter().collect::<Vec<_>>(), [Some(5), Some(6), None]);
        let statuses: Vec<_> = found.iter().map(|(_, s)| s.iter().collect::<Vec<_>>()).collect();
        assert_eq!(statuses[0], [Status::Present, Status::NullValue, Status::Present]);
        assert_eq!(statuses[1], [Status::Present, Status::Present, Status::NotFound]);
    }

    #[test]
    fn plain_columns_share_memory() {
        let mut columns = columns([ValueType::Double; 2], 2);
        for (left, right) in [(1.0, 2.0), (3.0, 4.0)] {
            push(&mut columns, &[Some(&double(left)), Some(&double(right))]);
        }

        let view = columns.finish().unwrap();

        let found = [0, 1].map(|feature| view.column(feature).unwrap());
        let [left, right] = [0, 1].map(|i| found[i].0.values.as_primitive::<Float64Type>());
        assert_eq!((&left.values()[..], &right.values()[..]), (&[1.0, 3.0][..], &[2.0, 4.0][..]));
        assert_eq!(right.values().as_ptr(), left.values().as_ptr().wrapping_add(2));
    }

    #[test]
    fn what_became_of_values_is_tallied_for_the_rows_of_the_request() {
        let mut columns = columns([ValueType::Double, ValueType::Int64, ValueType::String], 2);
        push(&mut columns, &[Some(&double(1.0)), Some(&[0x20, 5]), Some(&[0x12, 1, b'a'])]);
        push(&mut columns, &[Some(&double(2.0)), None, Some(&[])]);
        let view = columns.finish().unwrap();

        let tally = |rows| view.tally(rows);

        assert_eq!(tally(None), found::Tally { present: 4, not_found: 1 });
        let rows = UInt32Array::from(vec![1, 0, 1]);
        assert_eq!(tally(Some(&rows)), found::Tally { present: 5, not_found: 2 });
    }

    #[test]
    fn more_rows_than_asked_for_are_an_error() {
        let mut columns = columns([ValueType::Double], 0);
        let row = Row { event_timestamp: None, values: &[None], is_too_old: false, feast: None };

        assert!(columns.push(&row).is_err());
    }
}
