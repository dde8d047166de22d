//! The columns of one view while its rows come in. Pure; must not know stores.
//!
//! Numbers of eight bytes, which is what most features are, share one allocation for the whole
//! view as long as every value is there in its plain form; a column in which anything else
//! turns up gets a decoder of its own.

use std::sync::Arc;

use arrow_buffer::Buffer;

use super::answer::{Status, Statuses};
use super::assemble::FeastStatuses;
use super::found;
use crate::error::{Error, ErrorKind, Result};
use crate::value::wire::{ColumnDecoder, Decoded, PlainDecoder};
use crate::value::{Column, ValueType};

pub(super) struct ViewColumns {
    rows: usize,
    event_timestamps: Vec<i64>,
    // The values of all plain columns, one column after the other.
    plain: Vec<u64>,
    features: Vec<FeatureColumn>,
}

struct FeatureColumn {
    value_type: ValueType,
    values: Values,
}

enum Values {
    /// Row `r` is at `start + r` of the view's plain values, and PRESENT.
    Plain {
        decoder: PlainDecoder,
        start: usize,
    },
    Any(Box<AnyValues>),
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
    event_timestamps: Arc<Vec<i64>>,
    plain: Buffer,
    features: Vec<FoundValues>,
}

enum FoundValues {
    Plain { decoder: PlainDecoder, start: usize },
    Any(Box<FoundColumn>),
}

impl ViewColumns {
    pub(super) fn new(value_types: &[ValueType], rows: usize) -> Self {
        let mut start = 0;
        let features = value_types
            .iter()
            .map(|&value_type| {
                let values = match PlainDecoder::new(value_type) {
                    Some(decoder) => {
                        start += rows;
                        Values::Plain { decoder, start: start - rows }
                    }
                    None => Values::Any(Box::new(AnyValues {
                        decoder: ColumnDecoder::new(value_type, rows),
                        statuses: Statuses::all_present(0),
                    })),
                };
                FeatureColumn { value_type, values }
            })
            .collect();
        let event_timestamps = Vec::with_capacity(rows);
        ViewColumns { rows, event_timestamps, plain: vec![0; start], features }
    }

    /// Appends a row. An error comes with the index of its feature.
    pub(super) fn push(&mut self, row: &Row<'_>) -> std::result::Result<(), (Error, usize)> {
        let index = self.event_timestamps.len();
        if index >= self.rows {
            let message = "a store gave more rows than were asked for";
            return Err((Error::new(ErrorKind::Internal, message), 0));
        }
        self.event_timestamps.push(row.event_timestamp.unwrap_or(0));
        for (place, (feature, value)) in self.features.iter_mut().zip(row.values).enumerate() {
            if let Values::Plain { decoder, start } = feature.values
                && !row.is_too_old
                && let Some(bits) = value.and_then(|bytes| decoder.decode(bytes))
                && let Some(slot) = self.plain.get_mut(start + index)
            {
                *slot = bits;
                continue;
            }
            let rows = (index, self.rows);
            feature.push(*value, row, rows, &self.plain).map_err(|error| (error, place))?;
        }
        Ok(())
    }

    /// What came.
    pub(super) fn finish(self) -> Result<FoundView> {
        let features = self.features.into_iter().map(|feature| match feature.values {
            Values::Plain { decoder, start } => Ok(FoundValues::Plain { decoder, start }),
            Values::Any(values) => {
                Ok(FoundValues::Any(Box::new((values.decoder.finish()?, values.statuses))))
            }
        });
        Ok(FoundView {
            features: features.collect::<Result<_>>()?,
            event_timestamps: Arc::new(self.event_timestamps),
            plain: Buffer::from_vec(self.plain),
        })
    }
}

impl FoundView {
    /// When each row's values were true, microseconds since the epoch; 0: there is no row.
    pub(super) fn event_timestamps(&self) -> &Arc<Vec<i64>> {
        &self.event_timestamps
    }

    /// A feature's values as they lie in memory.
    pub(super) fn values(&self, feature: usize) -> Option<found::Values<'_>> {
        Some(match self.features.get(feature)? {
            FoundValues::Plain { decoder, start } => {
                let rows = self.event_timestamps.len();
                found::Values::Plain(decoder.values(&self.plain, *start, rows)?)
            }
            FoundValues::Any(found) => found::Values::Column(&found.0),
        })
    }

    /// A feature's column.
    pub(super) fn column(&self, feature: usize) -> Option<FoundColumn> {
        let rows = self.event_timestamps.len();
        Some(match self.features.get(feature)? {
            FoundValues::Plain { decoder, start } => {
                (decoder.column(&self.plain, *start, rows), Statuses::all_present(rows))
            }
            FoundValues::Any(found) => FoundColumn::clone(found),
        })
    }
}

impl FeatureColumn {
    /// Appends any value; `rows` are those before it and those to come in all.
    fn push(
        &mut self,
        value: Option<&[u8]>,
        row: &Row<'_>,
        rows: (usize, usize),
        plain: &[u64],
    ) -> Result<()> {
        let AnyValues { decoder, statuses } = self.any(rows, plain);
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

    /// The column with a decoder of its own, which it gets now if it had none.
    fn any(&mut self, (before, rows): (usize, usize), plain: &[u64]) -> &mut AnyValues {
        if let Values::Plain { start, .. } = self.values {
            let values = plain.get(start..start + before).unwrap_or_default();
            self.values = Values::Any(Box::new(AnyValues {
                decoder: ColumnDecoder::from_plain(self.value_type, values, rows),
                statuses: Statuses::all_present(before),
            }));
        }
        match &mut self.values {
            Values::Any(values) => values,
            Values::Plain { .. } => unreachable!("a plain column was turned just above"),
        }
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

    fn push(columns: &mut ViewColumns, values: &[Option<&[u8]>]) {
        let row = Row { event_timestamp: Some(9), values, is_too_old: false, feast: None };
        columns.push(&row).map_err(|(error, _)| error).unwrap();
    }

    #[test]
    fn a_null_among_plain_values_keeps_what_was_there() {
        let mut columns = ViewColumns::new(&[ValueType::Double, ValueType::Int64], 3);
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
        let mut columns = ViewColumns::new(&[ValueType::Double; 2], 2);
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
    fn more_rows_than_asked_for_are_an_error() {
        let mut columns = ViewColumns::new(&[ValueType::Double], 0);
        let row = Row { event_timestamp: None, values: &[None], is_too_old: false, feast: None };

        assert!(columns.push(&row).is_err());
    }
}
