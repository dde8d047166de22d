//! The core alone, with no Python: values to and from bytes, entity keys, field names, and
//! Redis replies. `make bench-core` runs it; criterion shows elements a second.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, types::Float32Type,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use feastrs::call::Call;
use feastrs::config::{ReadCommand, RedisConfig, RedisType, Secret};
use feastrs::hash::field_name;
use feastrs::key::{KeyEncoder, KeyVersion};
use feastrs::online::{FeatureVector, OnlineFeatures, Statuses};
use feastrs::server::ask;
use feastrs::server::render::to_json;
use feastrs::store::redis::RedisStore;
use feastrs::store::{OnlineStore, RowSink, StoredFeature, StoredGroup, StoredView};
use feastrs::value::arrow::encode_values;
use feastrs::value::wire::ColumnDecoder;
use feastrs::value::{Column, Layout, PackedBytes, ValueType};

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

const FEATURES: usize = 50;

/// A server that answers every HMGET with `FEATURES` doubles and a timestamp: what a read
/// costs when Redis itself costs nothing.
fn canned_server() -> SocketAddr {
    let mut reply = format!("*{}\r\n", FEATURES + 1).into_bytes();
    for value in 0..FEATURES {
        reply.extend_from_slice(b"$9\r\n\x29");
        reply.extend_from_slice(&(value as f64).to_le_bytes());
        reply.extend_from_slice(b"\r\n");
    }
    reply.extend_from_slice(b"$6\r\n\x08\x80\x81\xc8\xac\x06\r\n");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it was just bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &reply);
        }
    });
    address
}

fn answer(mut stream: TcpStream, reply: &[u8]) {
    let mut received = vec![0; 1 << 20];
    // The end of one piece may be the start of a command's name that goes on in the next.
    let mut kept = 0;
    while let Ok(count @ 1..) = stream.read(&mut received[kept..]) {
        let data = &received[..kept + count];
        let commands = data.windows(5).filter(|window| window == b"HMGET").count();
        if stream.write_all(&reply.repeat(commands)).is_err() {
            return;
        }
        let tail = data.len().saturating_sub(4)..data.len();
        kept = tail.len();
        received.copy_within(tail, 0);
    }
}

/// Decodes what it is given, as an answer does.
struct Decoding(Vec<ColumnDecoder>);

impl RowSink for Decoding {
    fn row(
        &mut self,
        _group: usize,
        _view: usize,
        _event_timestamp: Option<i64>,
        values: &[Option<&[u8]>],
    ) -> feastrs::Result<()> {
        for (decoder, value) in self.0.iter_mut().zip(values) {
            decoder.push(value.unwrap_or_default())?;
        }
        Ok(())
    }
}

fn replies(criterion: &mut Criterion) {
    let config = RedisConfig {
        field_ttl: false,
        redis_type: RedisType::Redis,
        sentinel_master: "mymaster".into(),
        connection_string: Secret::new(canned_server().to_string()),
        key_ttl_seconds: None,
        skip_dedup: false,
        full_scan_for_deletion: true,
        equal_timestamps_skip: false,
        read_command: ReadCommand::Hmget,
    };
    let store = RedisStore::new(&config, "demo").expect("the configuration is complete");
    let feature = |i| {
        let name = format!("f_{i}");
        StoredFeature { field: field_name("wide", &name), name }
    };
    let view = StoredView {
        ttl_micros: None,
        name: "wide".into(),
        features: (0..FEATURES).map(feature).collect(),
        timestamp_field: b"_ts:wide".to_vec(),
    };
    let reader = store.reader(&[StoredGroup { views: vec![view], expected_fields: FEATURES + 1 }]);
    let mut group = criterion.benchmark_group("read and decode replies");
    for rows in [1, 100] {
        let mut keys = PackedBytes::default();
        (0..rows as u64).for_each(|row| keys.push(&row.to_le_bytes()));
        let keys = [keys];
        group.throughput(Throughput::Elements((rows * FEATURES) as u64));
        group.bench_function(format!("{rows} x {FEATURES}"), |bench| {
            bench.iter(|| {
                let decoder = || ColumnDecoder::new(ValueType::Double, rows);
                let mut sink = Decoding((0..FEATURES).map(|_| decoder()).collect());
                reader.read(&keys, &mut sink, &Call::unlimited()).expect("the server answers");
                sink.0.into_iter().map(ColumnDecoder::finish).collect::<Result<Vec<_>, _>>()
            });
        });
    }
    group.finish();
}

/// A request and the answer to it: so many rows, so many features.
fn serve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("serve");
    for (rows, features) in [(1, 10), (100, 50)] {
        let ids: Vec<String> = (1000..1000 + rows).map(|id| id.to_string()).collect();
        let names: Vec<String> = (0..features).map(|i| format!("\"stats:feature_{i}\"")).collect();
        let body = format!(
            r#"{{"entities": {{"driver_id": [{}]}}, "features": [{}]}}"#,
            ids.join(", "),
            names.join(", ")
        );
        group.bench_function(format!("take a request apart, {rows} x {features}"), |bench| {
            bench.iter(|| ask::parse(black_box(&body)).is_ok());
        });
        let times = Arc::new(vec![1_700_000_000_123_456; rows]);
        let vectors = (0..features).map(|feature| {
            let values = (0..rows).map(|row| (row * features + feature) as f64 / 7.0);
            let values: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
            FeatureVector {
                name: format!("feature_{feature}").into(),
                column: Column { value_type: ValueType::Double, layout: Layout::Typed, values },
                statuses: Statuses::all_present(rows),
                event_timestamps: times.clone(),
            }
        });
        let answer = OnlineFeatures { vectors: vectors.collect(), join_keys: 0, rows }.into();
        group.bench_function(format!("print an answer, {rows} x {features}"), |bench| {
            bench.iter(|| to_json(black_box(&answer), &[]).is_ok());
        });
    }
}

criterion_group!(benches, encode, decode, keys, field_names, replies, serve);
criterion_main!(benches);
