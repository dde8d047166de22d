//! The columns of a frame, in the order of a [`FramePlan`]'s columns.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;

use super::plan::FramePlan;
use crate::error::Result;
use crate::value::PackedBytes;

/// The cells of one column, as they were given.
#[derive(Clone, Debug)]
pub enum Cells {
    /// Of any type that can be coerced to the declared one.
    Arrow(ArrayRef),
    /// Each a serialized `feast.types.Value` of the declared type; empty ones are null.
    Wire(PackedBytes),
}

impl Cells {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Cells::Arrow(array) => array.len(),
            Cells::Wire(values) => values.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every row is null; NaN counts as null, as in pandas.
    pub fn is_all_null(&self) -> bool {
        match self {
            Cells::Wire(values) => values.byte_len() == 0,
            Cells::Arrow(array) => match array.data_type() {
                DataType::Float64 => {
                    array.as_primitive::<Float64Type>().iter().flatten().all(f64::is_nan)
                }
                DataType::Float32 => {
                    array.as_primitive::<Float32Type>().iter().flatten().all(f32::is_nan)
                }
                _ => array.logical_null_count() == array.len(),
            },
        }
    }
}

/// Some rows of a frame.
#[derive(Clone, Debug)]
pub struct FrameBatch {
    /// One for each of the plan's columns, in that order.
    pub columns: Vec<Cells>,
    /// How many rows each column has.
    pub rows: usize,
}

impl FrameBatch {
    /// The columns of `batch` that `plan` takes; an error where one of them is missing.
    pub fn of(plan: &FramePlan, batch: &RecordBatch) -> Result<Self> {
        let schema = batch.schema_ref();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let places = plan.locate(&names)?;
        let columns = places.into_iter().map(|place| Cells::Arrow(batch.column(place).clone()));
        Ok(FrameBatch { columns: columns.collect(), rows: batch.num_rows() })
    }
}
