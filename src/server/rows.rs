//! The `df` of a request as columns, and as the batch that a view takes. Shapes are those of
//! `pandas.DataFrame(df)`: lists of one length, beside them single values that stand for every
//! row; or objects with one value for each row's label.

use std::result::Result as Outcome;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray, TimestampNanosecondArray,
    TimestampSecondArray,
};

use super::cells::{is_null, scalar, shortened, value};
use super::iso;
use super::tokens::Number;
use super::tree::{Json, Member};
use crate::error::{Error, ErrorKind, Result};
use crate::materialize::frame::{Cells, FrameBatch, FrameColumn, FramePlan};
use crate::value::wire::Value;
use crate::value::{PackedBytes, ValueType};

/// What Feast's remote online store calls the timestamp columns, whatever the source calls them.
const EVENT_TIMESTAMP: &str = "event_timestamp";
const CREATED: &str = "created";

/// The columns of a `df`.
pub(super) struct Rows<'j, 'a> {
    columns: Vec<(&'j str, Cell<'j, 'a>)>,
    count: usize,
}

/// A column.
enum Cell<'j, 'a> {
    List(&'j [Json<'a>]),
    Labelled(&'j [Member<'a>]),
    One(&'j Json<'a>),
}

impl<'j, 'a> Rows<'j, 'a> {
    /// Takes a `df` apart.
    ///
    /// Errors: columns of different lengths or labels, or single values alone.
    pub fn new(df: &'j [Member<'a>]) -> Result<Self> {
        let columns: Vec<_> = df
            .iter()
            .map(|(name, json)| match json {
                Json::List(items) => (name.as_ref(), Cell::List(items)),
                Json::Object(members) => (name.as_ref(), Cell::Labelled(members)),
                one => (name.as_ref(), Cell::One(one)),
            })
            .collect();
        let mut lengths = columns.iter().filter_map(|(_, column)| column.len());
        let count = match lengths.next() {
            Some(count) => count,
            None if columns.is_empty() => 0,
            None => return Err(refused("If using all scalar values, you must pass an index")),
        };
        if lengths.any(|length| length != count) {
            return Err(refused("All arrays must be of the same length"));
        }
        let mut labels = columns.iter().filter_map(|(_, column)| match column {
            Cell::Labelled(members) => Some(*members),
            _ => None,
        });
        if let Some(first) = labels.next() {
            let is_same = |members: &[Member<'_>]| {
                members.iter().zip(first).all(|((label, _), (known, _))| label == known)
            };
            let has_lists = columns.iter().any(|(_, column)| matches!(column, Cell::List(_)));
            if has_lists || !labels.all(is_same) {
                return Err(refused(
                    "the columns have different labels; give lists, or objects with the same keys \
                     in the same order",
                ));
            }
        }
        Ok(Rows { columns, count })
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each column's name and values.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&'j str, Vec<&'j Json<'a>>)> {
        let values = |column: &Cell<'j, 'a>| (0..self.count).map(|row| column.get(row)).collect();
        self.columns.iter().map(move |(name, column)| (*name, values(column)))
    }

    /// The columns that `plan` takes; others are left out. A timestamp column that is missing may
    /// go by the name that Feast's remote online store gives it.
    ///
    /// Errors: a column that is missing, or a value that its type does not take.
    pub fn batch(&self, plan: &FramePlan) -> Result<FrameBatch> {
        let mut names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let times = plan.columns().iter().filter(|column| column.value_type.is_none());
        for (wanted, usual) in times.zip([EVENT_TIMESTAMP, CREATED]) {
            let is_known = |name: &str| plan.columns().iter().any(|column| column.name == name);
            let is_given = names.contains(&wanted.name.as_str());
            if let Some(place) = names.iter().position(|name| *name == usual)
                && !is_given
                && !is_known(usual)
            {
                names[place] = &wanted.name;
            }
        }
        let places = plan.locate(&names)?;
        let columns = plan.columns().iter().zip(places).map(|(column, place)| {
            let cells = self.cells(column, &self.columns[place].1);
            cells.map_err(|error| error.context(format_args!("view '{}'", plan.view)))
        });
        Ok(FrameBatch { columns: columns.collect::<Result<_>>()?, rows: self.count })
    }

    fn cells(&self, column: &FrameColumn, given: &Cell<'_, '_>) -> Result<Cells> {
        let Some(value_type) = column.value_type else {
            let nanos = self.each(column, given, nanos)?;
            let times = TimestampNanosecondArray::from(nanos).with_timezone("UTC");
            return Ok(Cells::Arrow(Arc::new(times)));
        };
        if let Some(array) = self.keys(column, given, value_type)? {
            return Ok(Cells::Arrow(array));
        }
        let mut packed = PackedBytes::with_capacity(self.count, self.count * 8);
        for row in 0..self.count {
            let json = given.get(row);
            let value = value(json, value_type).map_err(|why| unfit(column, row, json, &why))?;
            packed.push_with(|out| value.encode(out));
        }
        Ok(Cells::Wire(packed))
    }

    /// An array, for the types that keys have; `None` for others.
    fn keys(
        &self,
        column: &FrameColumn,
        given: &Cell<'_, '_>,
        value_type: ValueType,
    ) -> Result<Option<ArrayRef>> {
        macro_rules! each {
            ($pattern:pat => $found:expr) => {
                self.each(column, given, |json| match scalar(json, value_type)? {
                    $pattern => Ok(Some($found)),
                    _ => Ok(None),
                })?
            };
        }
        Ok(Some(match value_type {
            ValueType::Int32 => Arc::new(Int32Array::from(each!(Value::Int32(number) => number))),
            ValueType::Int64 => Arc::new(Int64Array::from(each!(Value::Int64(number) => number))),
            ValueType::String => {
                Arc::new(StringArray::from(each!(Value::Text(_, text) => text.into_owned())))
            }
            ValueType::Bytes => {
                Arc::new(BinaryArray::from_iter(each!(Value::Bytes(bytes) => bytes.into_owned())))
            }
            ValueType::UnixTimestamp => {
                let seconds = each!(Value::UnixTimestamp(seconds) => seconds);
                Arc::new(TimestampSecondArray::from(seconds).with_timezone("UTC"))
            }
            _ => return Ok(None),
        }))
    }

    fn each<T>(
        &self,
        column: &FrameColumn,
        given: &Cell<'_, '_>,
        convert: impl Fn(&Json<'_>) -> Outcome<Option<T>, String>,
    ) -> Result<Vec<Option<T>>> {
        let convert = |row| {
            let json = given.get(row);
            if is_null(json) {
                return Ok(None);
            }
            convert(json).map_err(|why| unfit(column, row, json, &why))
        };
        (0..self.count).map(convert).collect()
    }
}

impl<'j, 'a> Cell<'j, 'a> {
    /// `None`: one value for all rows.
    fn len(&self) -> Option<usize> {
        match self {
            Cell::List(items) => Some(items.len()),
            Cell::Labelled(members) => Some(members.len()),
            Cell::One(_) => None,
        }
    }

    fn get(&self, row: usize) -> &'j Json<'a> {
        match self {
            Cell::List(items) => &items[row],
            Cell::Labelled(members) => &members[row].1,
            Cell::One(one) => one,
        }
    }
}

/// Nanoseconds since the epoch: numbers as they are, as in `pandas.to_datetime`, and ISO 8601.
fn nanos(json: &Json<'_>) -> Outcome<Option<i64>, String> {
    let far = || "it lies outside of the years 1677 to 2262".to_owned();
    match json {
        Json::Number(Number::Integer(number)) => Ok(Some(*number)),
        Json::Number(Number::Float(number)) if number.abs() < 9.2e18 => Ok(Some(*number as i64)),
        Json::Number(_) => Err(far()),
        Json::Text(text) if text.is_empty() || text == "NaT" => Ok(None),
        Json::Text(text) => {
            let moment = iso::instant(text)?;
            let nanos = moment.micros.checked_mul(1_000);
            nanos
                .and_then(|nanos| nanos.checked_add(i64::from(moment.nanos)))
                .ok_or_else(far)
                .map(Some)
        }
        _ => Err("it is no time".to_owned()),
    }
}

#[cold]
fn refused(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cold]
fn unfit(column: &FrameColumn, row: usize, json: &Json<'_>, why: &str) -> Error {
    let mut text = String::new();
    json.write(&mut text);
    let kind = column.value_type.map_or("a time", ValueType::name);
    let message = format!(
        "column '{}', row {row}: {} can't be stored as {kind}: {why}",
        column.name,
        shortened(&text)
    );
    Error::new(ErrorKind::TypeMismatch, message)
}
