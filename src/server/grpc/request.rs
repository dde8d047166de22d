//! The messages of requests, read from their bytes: `feast.serving.GetOnlineFeaturesRequest`, and
//! `PushRequest` and `WriteToOnlineStoreRequest` of Feast's Python server. Nothing is copied but
//! values. Fields that are not known, or of another wire type, are passed over, as protobuf has
//! it; of what stands there twice the last counts.

use std::borrow::Cow;

use ahash::AHashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::server::ask::{Ask, Features, Values, listed};
use crate::value::PackedBytes;
use crate::value::wire::reader::{Payload, Reader, text};

/// Up to so many keys are told apart by looking at all of them.
const FEW: usize = 16;

/// A row for the views of a push source, or for one view.
#[derive(Debug, Default, PartialEq)]
pub struct RowRequest<'a> {
    /// The name of the push source or the view.
    pub target: &'a str,
    /// Where the row goes; no matter for a view.
    pub to: &'a str,
    /// Whether the registry need not be looked at again.
    pub allow_registry_cache: bool,
    /// Columns as text. Of those with one name the last counts, here and below.
    pub texts: Vec<(&'a str, &'a str)>,
    /// Columns as serialized `feast.types.Value`s.
    pub values: Vec<(&'a str, &'a [u8])>,
}

/// Reads a `feast.serving.GetOnlineFeaturesRequest`.
///
/// Errors: it is none, or the same column is in `entities` and `request_context`.
pub fn features_request(bytes: &[u8]) -> Result<Ask<'_>> {
    let mut features = Features::List(Cow::Borrowed(&[]));
    let (mut entities, mut context) = (Columns::default(), Columns::default());
    let (mut full_feature_names, mut wants_versions) = (false, false);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(name)) => features = Features::Service(text(name)?.into()),
            (2, Payload::Bytes(list)) => features = merged(features, list)?,
            (3, Payload::Bytes(entry)) => entities.put(entry)?,
            (4, Payload::Varint(flag)) => full_feature_names = flag != 0,
            (5, Payload::Bytes(entry)) => context.put(entry)?,
            (6, Payload::Varint(flag)) => wants_versions = flag != 0,
            _ => {}
        }
    }
    if let Some((name, _)) = context.list.iter().find(|(name, _)| entities.place(name).is_some()) {
        let message = format!("'{name}' is in entities and in request_context; give it once");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let columns = entities.list.into_iter().chain(context.list);
    Ok(Ask {
        features,
        entities: columns.map(|(name, values)| (name.into(), Values::Wire(values))).collect(),
        full_feature_names,
        include_feature_view_version_metadata: wants_versions,
    })
}

/// A list that comes in parts is one, unless something else came between.
fn merged<'a>(before: Features<'a>, list: &'a [u8]) -> Result<Features<'a>> {
    if listed(list).is_none() {
        return Err(malformed());
    }
    Ok(Features::List(match before {
        Features::List(before) if !before.is_empty() => [&*before, list].concat().into(),
        _ => Cow::Borrowed(list),
    }))
}

/// Columns of serialized values by name, in the order in which they first came.
#[derive(Default)]
struct Columns<'a> {
    list: Vec<(&'a str, PackedBytes)>,
    // Of the columns, once there are more than a few.
    places: AHashMap<&'a str, usize>,
}

impl<'a> Columns<'a> {
    /// Adds an entry of a `map<string, feast.types.RepeatedValue>`.
    fn put(&mut self, entry: &'a [u8]) -> Result<()> {
        let mut name = "";
        let mut values = PackedBytes::default();
        let mut reader = Reader::new(entry);
        while let Some(field) = reader.field()? {
            match field {
                (1, Payload::Bytes(bytes)) => name = text(bytes)?,
                (2, Payload::Bytes(repeated)) => put_values(&mut values, repeated)?,
                _ => {}
            }
        }
        match self.place(name) {
            Some(place) => self.list[place].1 = values,
            None => {
                self.list.push((name, values));
                self.note(name, self.list.len() - 1);
            }
        }
        Ok(())
    }

    fn place(&self, name: &str) -> Option<usize> {
        match self.places.is_empty() {
            true => self.list.iter().position(|(known, _)| *known == name),
            false => self.places.get(name).copied(),
        }
    }

    /// Remembers where `name`, which comes last, is to be found.
    fn note(&mut self, name: &'a str, place: usize) {
        match place {
            0..FEW => {}
            FEW => {
                let all = self.list.iter().enumerate();
                self.places.extend(all.map(|(place, (name, _))| (*name, place)));
            }
            _ => drop(self.places.insert(name, place)),
        }
    }
}

fn put_values(values: &mut PackedBytes, repeated: &[u8]) -> Result<()> {
    let mut reader = Reader::new(repeated);
    while let Some(field) = reader.field()? {
        if let (1, Payload::Bytes(value)) = field {
            values.push(value);
        }
    }
    Ok(())
}

/// Reads a `PushRequest`.
///
/// Errors: it is none, or it has columns as text and as values.
pub fn push_request(bytes: &[u8]) -> Result<RowRequest<'_>> {
    row_request(bytes, 5)
}

/// Reads a `WriteToOnlineStoreRequest`.
///
/// Errors: as for [`push_request`].
pub fn write_request(bytes: &[u8]) -> Result<RowRequest<'_>> {
    row_request(bytes, 4)
}

/// The two messages have the same fields but for that of typed columns, and for 4, which is text
/// in one and those columns in the other.
fn row_request(bytes: &[u8], typed_field: u32) -> Result<RowRequest<'_>> {
    let mut request = RowRequest::default();
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(entry)) => {
                let (name, value) = map_entry(entry)?;
                request.texts.push((name, text(value)?));
            }
            (field, Payload::Bytes(entry)) if field == typed_field => {
                let (name, value) = map_entry(entry)?;
                request.values.push((name, value));
            }
            (2, Payload::Bytes(target)) => request.target = text(target)?,
            (3, Payload::Varint(flag)) => request.allow_registry_cache = flag != 0,
            (4, Payload::Bytes(to)) => request.to = text(to)?,
            _ => {}
        }
    }
    if !request.texts.is_empty() && !request.values.is_empty() {
        let message = "Only one of features or typed_features may be set, not both";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    Ok(request)
}

fn map_entry(entry: &[u8]) -> Result<(&str, &[u8])> {
    let (mut name, mut value) = ("", &[][..]);
    let mut reader = Reader::new(entry);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(bytes)) => name = text(bytes)?,
            (2, Payload::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((name, value))
}

#[cold]
fn malformed() -> Error {
    Error::new(ErrorKind::StoreInvalid, "a list of features is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::wire::writer::{VARINT, put_sized, put_tag, put_varint};

    fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        fields.iter().for_each(|(field, bytes)| put_sized(&mut out, *field, bytes));
        out
    }

    fn flag(mut message: Vec<u8>, field: u32) -> Vec<u8> {
        put_tag(&mut message, field, VARINT);
        put_varint(&mut message, 1);
        message
    }

    fn column(name: &str, values: &[&[u8]]) -> Vec<u8> {
        let values: Vec<_> = values.iter().map(|value| (1, *value)).collect();
        message(&[(1, name.as_bytes()), (2, &message(&values))])
    }

    fn names(ask: &Ask<'_>) -> Vec<String> {
        ask.entities.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn a_request_for_features_is_taken_apart() {
        let bytes = message(&[
            (2, &message(&[(1, b"v:f")])),
            (3, &column("k", &[&[0x20, 1], &[]])),
            (5, &column("r", &[&[0x20, 2], &[0x20, 3]])),
            (2, &message(&[(1, b"v:g"), (9, b"?")])),
            (99, b"of a newer Feast"),
        ]);
        let bytes = flag(flag(bytes, 4), 6);

        let ask = features_request(&bytes).unwrap();

        assert_eq!(ask.features.references().unwrap(), ["v:f", "v:g"]);
        assert_eq!(names(&ask), ["k", "r"]);
        assert_eq!(ask.rows(), 2);
        assert!(ask.full_feature_names && ask.include_feature_view_version_metadata);
    }

    #[test]
    fn of_services_and_features_the_last_counts() {
        let list = message(&[(1, b"v:f")]);
        let features = |fields: &[(u32, &[u8])]| {
            let bytes = message(fields);
            let ask = features_request(&bytes).unwrap();
            match ask.features {
                Features::Service(name) => Err(name.into_owned()),
                other => Ok(other.references().unwrap().len()),
            }
        };
        assert_eq!(features(&[(2, &list), (1, b"s")]), Err("s".to_owned()));
        assert_eq!(features(&[(2, &list), (1, b"s"), (2, &list)]), Ok(1));
        assert_eq!(features(&[(1, b"")]), Err(String::new()));
        assert_eq!(features(&[]), Ok(0));
    }

    #[test]
    fn of_columns_with_one_name_the_last_counts_however_many_there_are() {
        let columns: Vec<_> =
            (0..60).map(|n| column(&format!("k{}", n % 30), &vec![&[][..]; n])).collect();
        let fields: Vec<_> = columns.iter().map(|column| (3, &column[..])).collect();
        let bytes = message(&fields);

        let ask = features_request(&bytes).unwrap();

        assert_eq!(ask.entities.len(), 30);
        let is_last = |(place, (name, values)): (usize, &(Cow<'_, str>, Values))| {
            *name == format!("k{place}") && values.len() == place + 30
        };
        assert!(ask.entities.iter().enumerate().all(is_last));
    }

    #[test]
    fn a_column_is_given_once() {
        let bytes = message(&[(3, &column("k", &[])), (5, &column("k", &[]))]);
        let error = features_request(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("'k'"));
    }

    #[test]
    fn rows_are_taken_apart() {
        let entry = message(&[(1, b"k"), (2, b"\x20\x07")]);
        let bytes = flag(message(&[(2, b"source"), (4, b"online"), (5, &entry)]), 3);
        let request = push_request(&bytes).unwrap();
        assert_eq!((request.target, request.to), ("source", "online"));
        assert!(request.allow_registry_cache && request.texts.is_empty());
        assert_eq!(request.values, [("k", &[0x20, 7][..])]);

        let bytes = message(&[(2, b"view"), (4, &entry)]);
        let request = write_request(&bytes).unwrap();
        assert_eq!((request.target, request.values.len()), ("view", 1));

        let bytes = message(&[(1, &entry), (4, &entry)]);
        assert!(push_request(&bytes).unwrap().values.is_empty());
        let error = write_request(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let bad_list = message(&[(2, &[0x0a, 5])]);
        let bad_text = message(&[(1, b"\xff")]);
        for bytes in [&b"\x0a\x05a"[..], &bad_list, &bad_text, &message(&[(3, &[0xff])])] {
            assert!(features_request(bytes).is_err());
        }
        assert!(push_request(&bad_text).is_err());
    }
}
