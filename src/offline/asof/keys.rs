//! Join keys as small numbers: the labels' keys are numbered once, feature rows are looked up.
//!
//! Keys that are whole numbers within a narrow range are numbered by subtraction alone, others by
//! a hash table. Of composite keys each column is numbered by itself, then the pairs of numbers
//! are, so that every kind of key goes one of two fast ways.

use ahash::RandomState;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, Int64Array, LargeBinaryArray, PrimitiveArray,
};
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use hashbrown::HashTable;

use crate::error::{Error, ErrorKind, Result};
use crate::offline::ticks::{Ticks, finest};
use crate::value::PackedBytes;

/// Stands for a key that no label has, or that is null.
pub const NO_KEY: u32 = u32::MAX;

/// How much larger than the number of labels a range of keys may be that is not hashed.
const DIRECT_RANGE: u64 = 4;
/// A range that is never too large for that.
const SMALL_RANGE: u64 = 1 << 16;

/// How a key column is compared: labels and sources may differ in width and encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyForm {
    /// As whole numbers. A float that is no whole number equals none.
    Integer,
    /// As whole numbers without sign.
    Unsigned,
    /// As floats.
    Float,
    /// Byte by byte: text, or bytes.
    Bytes,
    /// As decimals of that scale.
    Decimal(i8),
    /// As points in time of that unit.
    Instant(TimeUnit),
}

/// What can be compared with each other.
enum Family {
    Null,
    Integer,
    Unsigned,
    Boolean,
    Float,
    Text,
    Binary,
    Decimal(i8),
    Instant(TimeUnit),
}

fn family(data_type: &DataType) -> Option<Family> {
    Some(match data_type {
        DataType::Null => Family::Null,
        DataType::Dictionary(_, values) => family(values)?,
        DataType::Boolean => Family::Boolean,
        data_type if data_type.is_unsigned_integer() => Family::Unsigned,
        data_type if data_type.is_integer() => Family::Integer,
        data_type if data_type.is_floating() => Family::Float,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Family::Text,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Family::Binary,
        DataType::Decimal128(_, scale) => Family::Decimal(*scale),
        other => Family::Instant(Ticks::unit_of(other)?),
    })
}

impl KeyForm {
    /// The form in which values of these two types can be equal; `None` if they never are.
    pub fn common(one: &DataType, other: &DataType) -> Option<Self> {
        let (left, right) = (family(one)?, family(other)?);
        Some(match (left, right) {
            (Family::Null, Family::Null) => KeyForm::Integer,
            (Family::Null, _) => return Self::common(other, other),
            (_, Family::Null) => return Self::common(one, one),
            (Family::Boolean, Family::Boolean) => KeyForm::Integer,
            (Family::Unsigned, Family::Unsigned) => KeyForm::Unsigned,
            (Family::Integer | Family::Unsigned | Family::Float, Family::Integer)
            | (Family::Integer | Family::Float, Family::Unsigned)
            | (Family::Integer | Family::Unsigned, Family::Float) => KeyForm::Integer,
            (Family::Float, Family::Float) => KeyForm::Float,
            (Family::Text, Family::Text) | (Family::Binary, Family::Binary) => KeyForm::Bytes,
            (Family::Decimal(a), Family::Decimal(b)) => KeyForm::Decimal(a.max(b)),
            (Family::Decimal(scale), Family::Integer | Family::Unsigned)
            | (Family::Integer | Family::Unsigned, Family::Decimal(scale)) => {
                KeyForm::Decimal(scale.max(0))
            }
            (Family::Instant(a), Family::Instant(b)) => KeyForm::Instant(finest(a, b)),
            _ => return None,
        })
    }

    /// The values of a column in this form. What has no such form is null: it equals nothing.
    /// `column` names it in errors.
    pub fn read(self, array: &ArrayRef, column: &str) -> Result<KeyValues> {
        let failed = |cause| {
            Error::new(ErrorKind::TypeMismatch, format!("key column '{column}' can't be read"))
                .with_source(cause)
        };
        let unpacked = match array.data_type() {
            DataType::Dictionary(_, values) => cast(array, values).map_err(failed)?,
            _ => array.clone(),
        };
        Ok(match self {
            KeyForm::Integer => KeyValues::Numbers(whole_numbers(&unpacked).map_err(failed)?),
            KeyForm::Unsigned => KeyValues::Numbers(bit_patterns(&unpacked).map_err(failed)?),
            KeyForm::Float => KeyValues::Numbers(float_bits(&unpacked).map_err(failed)?),
            KeyForm::Bytes => byte_strings(&unpacked).map_err(failed)?,
            KeyForm::Decimal(scale) => {
                let wide = cast(&unpacked, &DataType::Decimal128(38, scale)).map_err(failed)?;
                let bytes = wide.as_primitive::<Decimal128Type>().iter();
                let bytes = bytes.map(|value| value.map(i128::to_le_bytes));
                KeyValues::Small(bytes.collect::<BinaryArray>())
            }
            KeyForm::Instant(unit) => {
                let ticks = match unpacked.data_type() {
                    DataType::Null => return Ok(KeyValues::Numbers(nulls(unpacked.len()))),
                    _ => Ticks::read(&unpacked, column)?.in_finer(unit),
                };
                KeyValues::Numbers(Int64Array::new(ticks.values, ticks.nulls))
            }
        })
    }
}

type Cast<T> = std::result::Result<T, arrow_schema::ArrowError>;

fn nulls(rows: usize) -> Int64Array {
    Int64Array::new_null(rows)
}

fn whole_numbers(array: &ArrayRef) -> Cast<Int64Array> {
    if !array.data_type().is_floating() {
        return Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone());
    }
    let floats = cast(array, &DataType::Float64)?;
    let floats: &PrimitiveArray<Float64Type> = floats.as_primitive();
    let bound = 2f64.powi(63);
    let in_range = |value: f64| (-bound..bound).contains(&value);
    let whole = |value: f64| (in_range(value) && value.fract() == 0.0).then_some(value as i64);
    Ok(floats.iter().map(|value| value.and_then(whole)).collect())
}

/// Numbers without sign by their bits, so that the largest have a form, too.
fn bit_patterns(array: &ArrayRef) -> Cast<Int64Array> {
    let values = cast(array, &DataType::UInt64)?;
    let values: &PrimitiveArray<UInt64Type> = values.as_primitive();
    let bits = values.values().iter().map(|value| *value as i64).collect();
    Ok(Int64Array::new(bits, values.nulls().cloned()))
}

/// Floats by their bits: one zero, and no NaN, which equals nothing.
fn float_bits(array: &ArrayRef) -> Cast<Int64Array> {
    let floats = cast(array, &DataType::Float64)?;
    let floats: &PrimitiveArray<Float64Type> = floats.as_primitive();
    let bits = |value: f64| (!value.is_nan()).then_some((value + 0.0).to_bits() as i64);
    Ok(floats.iter().map(|value| value.and_then(bits)).collect())
}

fn byte_strings(array: &ArrayRef) -> Cast<KeyValues> {
    Ok(match array.data_type() {
        DataType::LargeUtf8 | DataType::LargeBinary => {
            KeyValues::Large(cast(array, &DataType::LargeBinary)?.as_binary().clone())
        }
        DataType::Utf8View | DataType::BinaryView => {
            KeyValues::View(cast(array, &DataType::BinaryView)?.as_binary_view().clone())
        }
        _ => KeyValues::Small(cast(array, &DataType::Binary)?.as_binary().clone()),
    })
}

/// A key column in a [`KeyForm`].
pub enum KeyValues {
    /// Numbers of any kind.
    Numbers(Int64Array),
    /// Text or bytes.
    Small(BinaryArray),
    /// The same, with wide offsets.
    Large(LargeBinaryArray),
    /// The same, as views.
    View(BinaryViewArray),
}

impl KeyValues {
    /// Gives each value to `take`, with its row.
    fn for_each_bytes<'a>(&'a self, mut take: impl FnMut(usize, Option<&'a [u8]>)) {
        match self {
            KeyValues::Small(array) => array.iter().enumerate().for_each(|(row, v)| take(row, v)),
            KeyValues::Large(array) => array.iter().enumerate().for_each(|(row, v)| take(row, v)),
            KeyValues::View(array) => array.iter().enumerate().for_each(|(row, v)| take(row, v)),
            // A table of bytes is asked for bytes: both are of one form.
            KeyValues::Numbers(array) => (0..array.len()).for_each(|row| take(row, None)),
        }
    }
}

/// Between which values the labels' keys lie, in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyBounds {
    /// Numbers, both ends inclusive.
    Numbers(i64, i64),
    /// Text or bytes, both ends inclusive.
    Bytes(Vec<u8>, Vec<u8>),
}

impl KeyBounds {
    /// Of `values` in `form`; `None` where their order means nothing, or there are none.
    fn of(values: &KeyValues) -> Option<Self> {
        if let KeyValues::Numbers(values) = values {
            return Some(KeyBounds::Numbers(smallest(values)?, largest(values)?));
        }
        let mut bounds: Option<(&[u8], &[u8])> = None;
        values.for_each_bytes(|_, value| {
            let Some(value) = value else { return };
            bounds = Some(match bounds {
                None => (value, value),
                Some((least, most)) => (least.min(value), most.max(value)),
            });
        });
        bounds.map(|(least, most)| KeyBounds::Bytes(least.to_vec(), most.to_vec()))
    }

    /// Whether a value from `least` to `most`, one element each, may be among the labels' keys.
    pub fn may_have(&self, form: KeyForm, least: &ArrayRef, most: &ArrayRef) -> bool {
        let has_order = matches!(form, KeyForm::Integer | KeyForm::Bytes | KeyForm::Instant(_));
        let (Ok(least), Ok(most)) = (form.read(least, ""), form.read(most, "")) else {
            return true;
        };
        let (Some(least), Some(most)) = (KeyBounds::of(&least), KeyBounds::of(&most)) else {
            return true;
        };
        match (self, least, most) {
            _ if !has_order => true,
            (
                KeyBounds::Numbers(a, b),
                KeyBounds::Numbers(least, _),
                KeyBounds::Numbers(_, most),
            ) => least <= *b && most >= *a,
            (KeyBounds::Bytes(a, b), KeyBounds::Bytes(least, _), KeyBounds::Bytes(_, most)) => {
                least <= *b && most >= *a
            }
            _ => true,
        }
    }
}

/// The numbers of the keys that labels have.
pub struct KeyTable {
    /// Of each column; `None`: not known.
    pub bounds: Vec<Option<KeyBounds>>,
    columns: Vec<Numbering>,
    /// `pairs[i]` numbers the pairs of what came before and column `i + 1`.
    pairs: Vec<IntTable>,
    keys: usize,
}

enum Numbering {
    Numbers(IntTable),
    Bytes(BytesTable),
}

impl KeyTable {
    /// Numbers the keys of `rows` labels; `columns` are their key columns, none for a view
    /// without entity. Gives the key of each label, [`NO_KEY`] where a part of it is null.
    pub fn number(columns: &[KeyValues], rows: usize) -> (Self, Vec<u32>) {
        let bounds = columns.iter().map(KeyBounds::of).collect();
        let mut table = KeyTable { bounds, columns: Vec::new(), pairs: Vec::new(), keys: 1 };
        let mut ids = vec![0; rows];
        for (place, column) in columns.iter().enumerate() {
            let own = if place == 0 { &mut ids } else { &mut vec![0; rows] };
            let (numbering, keys) = Numbering::of(column, own);
            table.columns.push(numbering);
            table.keys = keys;
            if place > 0 {
                let own = std::mem::take(own);
                let pairs = || ids.iter().zip(&own).map(|(&left, &right)| pair(left, right));
                let (numbering, numbers, keys) = IntTable::hashing(pairs());
                table.pairs.push(numbering);
                (ids, table.keys) = (numbers, keys);
            }
        }
        (table, ids)
    }

    /// All numbers are below this.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether no label has a key.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The number of each row's key, put into `ids`: [`NO_KEY`] where no label has it.
    pub fn find(&self, columns: &[KeyValues], rows: usize, ids: &mut Vec<u32>) {
        ids.clear();
        ids.resize(rows, 0);
        let mut right = Vec::new();
        for (place, (numbering, column)) in self.columns.iter().zip(columns).enumerate() {
            if place == 0 {
                numbering.find(column, ids);
                continue;
            }
            right.resize(rows, 0);
            numbering.find(column, &mut right);
            let table = &self.pairs[place - 1];
            for (left, &right) in ids.iter_mut().zip(&right) {
                *left = pair(*left, right).map_or(NO_KEY, |pair| table.get(pair));
            }
        }
    }
}

fn pair(left: u32, right: u32) -> Option<i64> {
    let is_key = left != NO_KEY && right != NO_KEY;
    is_key.then_some(((u64::from(left) << 32) | u64::from(right)) as i64)
}

impl Numbering {
    /// Numbers the values of `column`, puts them into `ids`, and says what they are below.
    fn of(column: &KeyValues, ids: &mut Vec<u32>) -> (Self, usize) {
        match column {
            KeyValues::Numbers(values) => {
                let (table, numbers, keys) = IntTable::of(values);
                *ids = numbers;
                (Numbering::Numbers(table), keys)
            }
            bytes => {
                let mut table = BytesTable::default();
                bytes.for_each_bytes(|row, value| {
                    ids[row] = value.map_or(NO_KEY, |value| table.add(value));
                });
                let keys = table.keys.len();
                (Numbering::Bytes(table), keys)
            }
        }
    }

    fn find(&self, column: &KeyValues, ids: &mut [u32]) {
        match (self, column) {
            (Numbering::Numbers(table), KeyValues::Numbers(values)) => table.find(values, ids),
            (Numbering::Bytes(table), bytes) => bytes.for_each_bytes(|row, value| {
                ids[row] = value.map_or(NO_KEY, |value| table.get(value));
            }),
            (Numbering::Numbers(_), _) => ids.fill(NO_KEY),
        }
    }
}

enum IntTable {
    /// `count` numbers from `first` on, each with a place whether a label has it or not.
    Direct {
        first: i64,
        count: u32,
    },
    Hashed {
        table: HashTable<(i64, u32)>,
        hasher: RandomState,
    },
}

impl IntTable {
    /// The table of `values`, the number of each, and what they are below.
    fn of(values: &Int64Array) -> (Self, Vec<u32>, usize) {
        let (Some(first), Some(last)) = (smallest(values), largest(values)) else {
            return (IntTable::Direct { first: 0, count: 0 }, vec![NO_KEY; values.len()], 0);
        };
        let range = last.wrapping_sub(first) as u64;
        let limit =
            (values.len() as u64 * DIRECT_RANGE).max(SMALL_RANGE).min(u64::from(NO_KEY) - 1);
        if range >= limit {
            return Self::hashing(values.iter());
        }
        let count = range as u32 + 1;
        let table = IntTable::Direct { first, count };
        let mut ids = vec![0; values.len()];
        table.find(values, &mut ids);
        (table, ids, count as usize)
    }

    fn hashing(values: impl Iterator<Item = Option<i64>>) -> (Self, Vec<u32>, usize) {
        let hasher = RandomState::new();
        let mut table: HashTable<(i64, u32)> = HashTable::new();
        let mut number = |value: i64| {
            let next = table.len() as u32;
            let entry = table.entry(
                hasher.hash_one(value),
                |(known, _)| *known == value,
                |(known, _)| hasher.hash_one(known),
            );
            entry.or_insert((value, next)).get().1
        };
        let ids = values.map(|value| value.map_or(NO_KEY, &mut number)).collect();
        let keys = table.len();
        (IntTable::Hashed { table, hasher }, ids, keys)
    }

    #[inline]
    fn get(&self, value: i64) -> u32 {
        match self {
            IntTable::Direct { first, count } => {
                let place = value.wrapping_sub(*first) as u64;
                if place < u64::from(*count) { place as u32 } else { NO_KEY }
            }
            IntTable::Hashed { table, hasher } => table
                .find(hasher.hash_one(value), |(known, _)| *known == value)
                .map_or(NO_KEY, |(_, id)| *id),
        }
    }

    fn find(&self, values: &Int64Array, ids: &mut [u32]) {
        let all = ids.iter_mut().zip(values.values());
        match self {
            // Two loops, so that each is one.
            IntTable::Direct { .. } => all.for_each(|(id, value)| *id = self.get(*value)),
            IntTable::Hashed { .. } => all.for_each(|(id, value)| *id = self.get(*value)),
        }
        if let Some(nulls) = values.nulls().filter(|nulls| nulls.null_count() > 0) {
            (0..values.len()).filter(|row| nulls.is_null(*row)).for_each(|row| ids[row] = NO_KEY);
        }
    }
}

fn smallest(values: &Int64Array) -> Option<i64> {
    match values.null_count() {
        0 => values.values().iter().copied().min(),
        _ => values.iter().flatten().min(),
    }
}

fn largest(values: &Int64Array) -> Option<i64> {
    match values.null_count() {
        0 => values.values().iter().copied().max(),
        _ => values.iter().flatten().max(),
    }
}

#[derive(Default)]
struct BytesTable {
    table: HashTable<u32>,
    keys: PackedBytes,
    hasher: RandomState,
}

impl BytesTable {
    fn add(&mut self, value: &[u8]) -> u32 {
        let (keys, hasher) = (&self.keys, &self.hasher);
        let hash = hasher.hash_one(value);
        if let Some(id) = self.table.find(hash, |id| keys.get(*id as usize) == value) {
            return *id;
        }
        let id = keys.len() as u32;
        self.table.insert_unique(hash, id, |id| hasher.hash_one(keys.get(*id as usize)));
        self.keys.push(value);
        id
    }

    fn get(&self, value: &[u8]) -> u32 {
        let found =
            self.table.find(self.hasher.hash_one(value), |id| self.keys.get(*id as usize) == value);
        found.copied().unwrap_or(NO_KEY)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BooleanArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float64Array,
        Int32Array, LargeStringArray, StringArray, StringViewArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt64Array, types::Int32Type,
    };

    use super::*;

    /// For each of `rows`, the first of `labels` that it equals.
    fn matched(labels: ArrayRef, rows: ArrayRef) -> Vec<Option<usize>> {
        let form = KeyForm::common(labels.data_type(), rows.data_type()).unwrap();
        let values = [form.read(&labels, "k").unwrap()];
        let (table, ids) = KeyTable::number(&values, labels.len());
        let mut found = Vec::new();
        table.find(&[form.read(&rows, "k").unwrap()], rows.len(), &mut found);
        assert!(ids.iter().all(|id| *id == NO_KEY || (*id as usize) < table.len()));
        let place = |id: &u32| ids.iter().position(|known| known == id);
        found.iter().map(|id| if *id == NO_KEY { None } else { place(id) }).collect()
    }

    #[test]
    fn numbers_of_any_width_are_compared_by_value() {
        let labels = Arc::new(Int64Array::from(vec![Some(5), None, Some(-7), Some(5)]));
        let rows: ArrayRef = Arc::new(Int32Array::from(vec![Some(-7), Some(5), None, Some(6)]));
        assert_eq!(matched(labels.clone(), rows), [Some(2), Some(0), None, None]);
        let floats: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(5.0), Some(5.5), Some(f64::NAN), None]));
        assert_eq!(matched(labels.clone(), floats), [Some(0), None, None, None]);
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 5]));
        assert_eq!(matched(labels, large.clone()), [None, Some(0)]);
        assert_eq!(matched(large.clone(), large), [Some(0), Some(1)]);
    }

    #[test]
    fn wide_ranges_are_hashed_and_narrow_ones_are_not() {
        let wide = Int64Array::from(vec![i64::MIN, 0, i64::MAX]);
        let (table, ids, keys) = IntTable::of(&wide);
        assert!(matches!(table, IntTable::Hashed { .. }) && keys == 3 && ids == [0, 1, 2]);
        let narrow = Int64Array::from(vec![-3, 10]);
        let (table, ids, keys) = IntTable::of(&narrow);
        assert!(matches!(table, IntTable::Direct { .. }) && keys == 14 && ids == [0, 13]);
        assert_eq!([table.get(i64::MIN), table.get(i64::MAX), table.get(-4)], [NO_KEY; 3]);
        let (table, ids, keys) = IntTable::of(&Int64Array::new_null(2));
        assert_eq!((ids, keys, table.get(0)), (vec![NO_KEY; 2], 0, NO_KEY));
    }

    #[test]
    fn text_is_compared_in_every_encoding() {
        let labels: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
        let words = vec![Some(""), Some("b"), None, Some("a")];
        let expected = [Some(2), None, None, Some(0)];
        let large: ArrayRef = Arc::new(LargeStringArray::from(words.clone()));
        assert_eq!(matched(labels.clone(), large), expected);
        let views: ArrayRef = Arc::new(StringViewArray::from(words.clone()));
        assert_eq!(matched(labels.clone(), views), expected);
        let packed: DictionaryArray<Int32Type> = words.into_iter().collect();
        assert_eq!(matched(labels, Arc::new(packed)), expected);
    }

    #[test]
    fn floats_times_and_decimals_have_forms_of_their_own() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5, -0.0, f64::NAN]));
        let rows: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 0.0, 0.5]));
        assert_eq!(matched(floats, rows), [None, Some(1), Some(0)]);

        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1]));
        let rows: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000_000, 1_000_001]));
        assert_eq!(matched(times, rows), [Some(0), None]);

        let decimals = Decimal128Array::from(vec![150]).with_precision_and_scale(10, 2).unwrap();
        let rows = Decimal128Array::from(vec![15, 16]).with_precision_and_scale(10, 1).unwrap();
        assert_eq!(matched(Arc::new(decimals), Arc::new(rows)), [Some(0), None]);

        let bytes = |values: &[&[u8]]| -> ArrayRef {
            Arc::new(FixedSizeBinaryArray::try_from_iter(values.iter()).unwrap())
        };
        assert_eq!(matched(bytes(&[b"ab"]), bytes(&[b"ab", b"ac"])), [Some(0), None]);
    }

    #[test]
    fn what_can_never_be_equal_has_no_common_form() {
        let (text, number) = (DataType::Utf8, DataType::Int64);
        assert_eq!(KeyForm::common(&text, &number), None);
        assert_eq!(KeyForm::common(&DataType::Boolean, &number), None);
        assert_eq!(KeyForm::common(&DataType::Binary, &text), None);
        assert_eq!(KeyForm::common(&DataType::Null, &text), Some(KeyForm::Bytes));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        assert_eq!(matched(flags.clone(), flags), [Some(0)]);
    }

    #[test]
    fn composite_keys_are_equal_in_all_their_parts() {
        let numbers = |values: Vec<Option<i64>>| KeyValues::Numbers(values.into());
        let words = |values: Vec<Option<&str>>| {
            let array: ArrayRef = Arc::new(StringArray::from(values));
            KeyForm::Bytes.read(&array, "w").unwrap()
        };
        let labels = [
            numbers(vec![Some(1), Some(1), Some(2), None]),
            words(vec![Some("x"), Some("y"), None, Some("x")]),
            numbers(vec![Some(0), Some(0), Some(0), Some(0)]),
        ];
        let (table, ids) = KeyTable::number(&labels, 4);
        assert_eq!(ids, [0, 1, NO_KEY, NO_KEY]);
        let rows = [
            numbers(vec![Some(1), Some(2), Some(1)]),
            words(vec![Some("y"), Some("x"), Some("x")]),
            numbers(vec![Some(0), Some(0), Some(9)]),
        ];
        let mut found = vec![7];
        table.find(&rows, 3, &mut found);
        assert_eq!(found, [1, NO_KEY, NO_KEY]);
    }

    #[test]
    fn without_join_keys_all_have_one() {
        let (table, ids) = KeyTable::number(&[], 2);
        assert_eq!((ids, table.len()), (vec![0, 0], 1));
        let mut found = Vec::new();
        table.find(&[], 3, &mut found);
        assert_eq!(found, [0, 0, 0]);
    }
}
