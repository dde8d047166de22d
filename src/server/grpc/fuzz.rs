//! The target `calls`: bodies and messages of calls, taken apart, compared with what prost makes
//! of them, and their values converted to every type of key and to the host's JSON.
#![allow(clippy::panic, clippy::unwrap_used, reason = "what does not hold stops the fuzzer")]

use prost::{Message, Oneof};

use super::frame::{Encoding, Frames, PREFIX, lone};
use super::reads::body;
use super::request::{RowRequest, features_request, push_request, write_request};
use super::rows::{Types, df};
use crate::error::ErrorKind;
use crate::server::ask::{self, Ask, Features, Values};
use crate::server::entities::{to_key, to_shown};
use crate::value::{PackedBytes, ValueType};

/// Bytes of one message, which a few compressed ones may become.
const LIMIT: usize = 4096;

/// What the first byte says: a body of messages in frames, or one of the three messages.
pub fn calls(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 4 {
        0 => frames(bytes),
        1 => features(bytes),
        2 => row(bytes, push_request, |asked: PushRequest| (asked.features, asked.typed)),
        _ => row(bytes, write_request, |asked: WriteRequest| (asked.features, asked.typed)),
    }
}

/// A body of one message is that message; in pieces it is the same messages. None is
/// decompressed: that takes flate2 more memory than such inputs are allowed.
fn frames(bytes: &[u8]) {
    let whole = lone(bytes.to_vec().into(), Encoding::Identity, LIMIT);
    let (mut frames, mut found, mut is_broken) = (Frames::default(), Vec::new(), false);
    for piece in bytes.chunks(7) {
        frames.push(piece);
        while !is_broken {
            let next = frames.next(LIMIT);
            match next.map(|next| next.map(|one| one.decoded(Encoding::Identity, LIMIT))) {
                Ok(Some(Ok(message))) => found.push(message),
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => is_broken = true,
            }
        }
    }
    if let Ok(message) = whole {
        assert_eq!(&bytes[PREFIX..], message);
        assert!(!is_broken && frames.is_empty());
        assert_eq!(found, [message]);
    }
}

#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(string, repeated, tag = "1")]
    val: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Repeated {
    #[prost(bytes = "vec", repeated, tag = "1")]
    val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Column {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Repeated>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(string, tag = "1")]
    Service(String),
    #[prost(message, tag = "2")]
    Features(List),
}

#[derive(Clone, PartialEq, Message)]
struct FeaturesRequest {
    #[prost(oneof = "Kind", tags = "1, 2")]
    kind: Option<Kind>,
    #[prost(message, repeated, tag = "3")]
    entities: Vec<Column>,
    #[prost(bool, tag = "4")]
    full_feature_names: bool,
    #[prost(message, repeated, tag = "5")]
    context: Vec<Column>,
    #[prost(bool, tag = "6")]
    versions: bool,
}

fn features(bytes: &[u8]) {
    let ours = features_request(bytes);
    let Ok(expected) = FeaturesRequest::decode(bytes) else {
        ours.map(convert).ok();
        return;
    };
    // What is unknown is skipped by both, but groups, which proto3 does not have.
    let again = expected.encode_to_vec();
    for ask in [ours, features_request(&again)] {
        match ask {
            Ok(ask) => {
                compare(&ask, &expected);
                convert(ask);
            }
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                let is_twice = |one: &Column| expected.entities.iter().any(|e| e.key == one.key);
                assert!(expected.context.iter().any(is_twice), "{error}");
            }
            Err(_) => {}
        }
    }
    let is_malformed = |error: crate::Error| error.kind() != ErrorKind::InvalidArgument;
    assert!(!features_request(&again).is_err_and(is_malformed), "what prost wrote");
}

fn compare(ask: &Ask<'_>, expected: &FeaturesRequest) {
    match (&ask.features, &expected.kind) {
        (Features::Service(name), Some(Kind::Service(expected))) => assert_eq!(name, expected),
        (features, Some(Kind::Features(list))) => {
            assert_eq!(features.references().unwrap(), list.val);
        }
        (features, None) => assert_eq!(features.references(), Some(Vec::new())),
        (features, Some(kind)) => panic!("{features:?} for {kind:?}"),
    }
    assert_eq!(ask.full_feature_names, expected.full_feature_names);
    assert_eq!(ask.include_feature_view_version_metadata, expected.versions);
    let mut columns: Vec<(&str, &[Vec<u8>])> = Vec::new();
    for one in expected.entities.iter().chain(&expected.context) {
        let values = one.value.as_ref().map_or(&[][..], |value| &value.val);
        match columns.iter_mut().find(|(name, _)| *name == one.key) {
            Some((_, earlier)) => *earlier = values,
            None => columns.push((&one.key, values)),
        }
    }
    assert_eq!(columns.len(), ask.entities.len());
    for ((name, values), (expected_name, expected)) in ask.entities.iter().zip(columns) {
        let Values::Wire(values) = values else { panic!("typed") };
        assert_eq!(name, expected_name);
        assert!(values.iter().eq(expected));
    }
}

/// To every type of key, and to the body of the host: all rows, or an error.
fn convert(ask: Ask<'_>) {
    let names: Vec<_> = ask.entities.iter().map(|(name, _)| name.clone().into_owned()).collect();
    if let Ok(json) = body(&ask) {
        let json = String::from_utf8(json.to_vec()).unwrap();
        let again = ask::parse(&json).unwrap_or_else(|fault| panic!("{fault:?}: {json}"));
        let found: Vec<_> = again.entities.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(found, names);
    }
    for (_, values) in ask.entities {
        let Values::Wire(values) = values else { panic!("typed") };
        columns(&values);
    }
}

fn columns(values: &PackedBytes) {
    let wire = || Values::Wire(values.clone());
    for value_type in ValueType::ALL.iter().filter(|value_type| value_type.is_key()) {
        if let Ok(column) = to_key(wire(), *value_type, "k") {
            assert_eq!((column.len(), column.value_type), (values.len(), *value_type));
            assert!((0..column.len()).all(|row| !column.is_null(row)), "a key that is null");
        }
    }
    if let Ok(column) = to_shown(wire(), "k") {
        assert_eq!(column.len(), values.len());
    }
}

#[derive(Clone, PartialEq, Message)]
struct TextEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    features: Vec<TextEntry>,
    #[prost(message, repeated, tag = "5")]
    typed: Vec<ValueEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    features: Vec<TextEntry>,
    #[prost(message, repeated, tag = "4")]
    typed: Vec<ValueEntry>,
}

fn row<M: Message + Default>(
    bytes: &[u8],
    read: fn(&[u8]) -> crate::Result<RowRequest<'_>>,
    entries: fn(M) -> (Vec<TextEntry>, Vec<ValueEntry>),
) {
    let Ok(request) = read(bytes) else { return };
    if let Ok(message) = M::decode(bytes) {
        let (texts, values) = entries(message);
        let expected = texts.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
        assert!(request.texts.iter().copied().eq(expected));
        let expected = values.iter().map(|entry| (entry.key.as_str(), &entry.value[..]));
        assert!(request.values.iter().copied().eq(expected));
    }
    let types: Types<'_> = ValueType::ALL.iter().map(|one| (one.name(), *one)).collect();
    if let Ok(df) = df(&request, &types) {
        crate::server::tree::Json::parse(&df).unwrap_or_else(|fault| panic!("{fault:?}: {df}"));
    }
}
