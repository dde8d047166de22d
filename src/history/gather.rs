//! The second pass: the features of the winning rows, put where the labels are.
//!
//! Some columns at a time: of each the winning rows, in the order of the source, and from them
//! the labels' values. What is in memory at once is the answer and a few columns of winners.

use arrow_array::{ArrayRef, BooleanArray, new_empty_array, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field};
use arrow_select::concat::concat;
use arrow_select::filter::FilterBuilder;
use arrow_select::take::take;

use super::pool::Meter;
use super::search::BATCH_BYTES;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::asof::Ranks;
use crate::offline::{Scan, ScanBatch, SourceFiles};

/// Columns of a source that are read together.
pub(super) struct Gather<'a> {
    pub source: &'a SourceFiles,
    pub ranks: &'a Ranks,
    /// Their names in the source.
    pub columns: Vec<String>,
    /// As they are given out.
    pub fields: Vec<Field>,
}

impl Gather<'_> {
    /// The labels' values of each column.
    pub fn run(&self, meter: &Meter, call: &Call<'_>) -> Result<Vec<ArrayRef>> {
        let mut parts: Vec<Vec<ArrayRef>> = self.columns.iter().map(|_| Vec::new()).collect();
        let scan = Scan {
            source: self.source,
            columns: &self.columns,
            window: None,
            keys: &[],
            rows: Some(&self.ranks.rows),
            batch_bytes: BATCH_BYTES,
        };
        scan.run(&mut |batch| {
            call.check()?;
            for (winners, parts) in self.winners(&batch)?.into_iter().zip(&mut parts) {
                parts.push(winners);
            }
            meter.add((batch.rows() * self.columns.len()) as u64);
            Ok(())
        })?;
        let columns = parts.into_iter().zip(&self.fields);
        columns
            .map(|(parts, field)| {
                call.check()?;
                self.of_labels(parts, field.data_type())
            })
            .collect()
    }

    /// The batch's winning rows.
    fn winners(&self, batch: &ScanBatch) -> Result<Vec<ArrayRef>> {
        let rows = &self.ranks.rows;
        let mut mask = arrow_buffer::BooleanBufferBuilder::new(batch.rows());
        for range in &batch.positions {
            mask.append_buffer(&rows.mask(range.clone()));
        }
        let mask = BooleanArray::new(mask.finish(), None);
        let is_all = mask.true_count() == mask.len();
        let filter = FilterBuilder::new(&mask).optimize().build();
        let columns = batch.columns.iter().zip(&self.fields).zip(&self.columns);
        columns
            .map(|((array, field), name)| {
                let winners =
                    if is_all { array.clone() } else { filter.filter(array).map_err(broken)? };
                fitted(winners, field.data_type(), name)
            })
            .collect()
    }

    fn of_labels(&self, parts: Vec<ArrayRef>, data_type: &DataType) -> Result<ArrayRef> {
        let places = &self.ranks.places;
        if self.ranks.rows.is_empty() {
            return Ok(new_null_array(data_type, arrow_array::Array::len(places)));
        }
        let winners = match parts.as_slice() {
            [] => new_empty_array(data_type),
            [one] => one.clone(),
            several => {
                let several: Vec<&dyn arrow_array::Array> =
                    several.iter().map(|part| part.as_ref()).collect();
                concat(&several).map_err(|cause| too_large_or_broken(cause, data_type))?
            }
        };
        drop(parts);
        take(&winners, places, None).map_err(|cause| too_large_or_broken(cause, data_type))
    }
}

/// The values in the type that all files share.
fn fitted(array: ArrayRef, data_type: &DataType, name: &str) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&array, data_type, &options).map_err(|cause| {
        let message = format!("column '{name}' is not of one type in all files");
        Error::new(ErrorKind::SourceInvalid, message).with_source(cause)
    })
}

/// More than an array of that type can hold is [`ErrorKind::Unsupported`]: fewer labels at once
/// may go.
#[cold]
fn too_large_or_broken(cause: ArrowError, data_type: &DataType) -> Error {
    match cause {
        ArrowError::OffsetOverflowError(_) => Error::new(
            ErrorKind::Unsupported,
            format!("values of type {data_type} take more than the 2 GB that one array can hold"),
        ),
        cause => broken(cause),
    }
}

#[cold]
fn broken(cause: ArrowError) -> Error {
    Error::new(ErrorKind::SourceInvalid, "a column can't be put together").with_source(cause)
}
