//! The core alone, with no Python: values to and from bytes, entity keys, field names.
//! `make bench-core` runs it; figures per row are criterion's time divided by `ROWS`.

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, types::Float32Type,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feastrs::hash::field_name;
use feastrs::key::{KeyEncoder, KeyVersion};
use feastrs::value::arrow::encode_values;
use feastrs::value::wire::ColumnDecoder;
use feastrs::value::{PackedBytes, ValueType};

const ROWS: usize = 10_000;

/// A column of `ROWS` rows of each type that hot paths see.
fn columns() -> Vec<(ValueType, ArrayRef)> {
    let numbers = || 0..ROWS as i64;
    let texts = || (0..ROWS).map(|i| format!("value-{i}"));
    let vectors = (0..ROWS).map(|i| Some((0..8).map(move |j| Some((i * j) as f32))));
    vec![
        (ValueType::Int32, Arc::new(Int32Array::from_iter_values(0..ROWS as i32)) as ArrayRef),
        (ValueType::Int64, Arc::new(Int64Array::from_iter_values(numbers()))),
        (ValueType::Float, Arc::new(Float32Array::from_iter_values(numbers().map(|i| i as f32)))),
        (ValueType::Double, Arc::new(Float64Array::from_iter_values(numbers().map(|i| i as f64)))),
        (ValueType::Bool, Arc::new(BooleanArray::from_iter(numbers().map(|i| Some(i % 3 == 0))))),
        (ValueType::String, Arc::new(StringArray::from_iter_values(texts()))),
        (ValueType::Bytes, Arc::new(BinaryArray::from_iter_values(texts()))),
        (
            ValueType::FloatList,
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(vectors)),
        ),
    ]
}

fn serialized(array: &ArrayRef, value_type: ValueType) -> PackedBytes {
    encode_values(array.as_ref(), value_type, "x").expect("the column is of its own type")
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode column");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (value_type, array) in columns() {
        group.bench_function(value_type.name(), |bench| {
            bench.iter(|| serialized(black_box(&array), value_type));
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode column");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (value_type, array) in columns() {
        let values = serialized(&array, value_type);
        group.bench_function(value_type.name(), |bench| {
            bench.iter(|| {
                let mut decoder = ColumnDecoder::new(value_type, ROWS);
                for value in black_box(&values).iter() {
                    decoder.push(value).expect("the value was encoded above");
                }
                decoder.finish()
            });
        });
    }
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let drivers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let customers: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..ROWS).map(|i| format!("customer-{i}"))));
    let driver = ("driver_id".to_string(), ValueType::Int64);
    let customer = ("customer_id".to_string(), ValueType::String);
    let cases = [
        ("INT64", vec![driver.clone()], vec![drivers.clone()]),
        ("INT64 and STRING", vec![driver, customer], vec![drivers, customers]),
    ];
    let mut group = criterion.benchmark_group("encode keys");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, join_keys, columns) in cases {
        let encoder = KeyEncoder::new(KeyVersion::V3, &join_keys).expect("both are key types");
        group.bench_function(name, |bench| bench.iter(|| encoder.encode(black_box(&columns))));
    }
    group.finish();
}

fn field_names(criterion: &mut Criterion) {
    criterion.bench_function("field name", |bench| {
        bench.iter(|| field_name(black_box("driver_hourly_stats"), black_box("conv_rate")));
    });
}

criterion_group!(benches, encode, decode, keys, field_names);
criterion_main!(benches);
