//! The body of a request for features, taken apart: what is asked for, free of any protocol.
//! Values of entities go straight into typed columns. A body that is not what it should be is
//! only recognized here; what Feast's server says about it is in `validation`. Other protocols
//! make an [`Ask`] of their own messages.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::result::Result;

use ahash::AHashMap;
use arrow_array::builder::StringBuilder;
use arrow_array::{Array, StringArray};

use super::tokens::{Fault, Number, Reader, Scalar};
use crate::value::PackedBytes;
use crate::value::wire::reader::{Payload, Reader as WireReader};

/// Up to so many entity columns are told apart by looking at all of them.
const FEW: usize = 16;

/// What a request asks for.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The features.
    pub features: Features<'a>,
    /// The columns of the entity rows, in the order of the request; names are distinct.
    pub entities: Vec<(Cow<'a, str>, Values)>,
    /// Whether columns are named `view__feature`.
    pub full_feature_names: bool,
    /// Whether the versions of the views are to be told.
    pub include_feature_view_version_metadata: bool,
}

impl Ask<'_> {
    /// Entity rows, by the first column.
    pub fn rows(&self) -> usize {
        self.entities.first().map_or(0, |(_, values)| values.len())
    }
}

/// Which features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Features<'a> {
    /// The text of a JSON array of references, which may be anything: see [`references`].
    References(&'a str),
    /// A serialized `feast.serving.FeatureList`, known to be one.
    List(Cow<'a, [u8]>),
    /// The name of a feature service.
    Service(Cow<'a, str>),
}

impl Features<'_> {
    /// The references; none for a service. `None` if something among them is no text.
    pub fn references(&self) -> Option<Vec<String>> {
        match self {
            Features::References(text) => references(text),
            Features::List(list) => listed(list),
            Features::Service(_) => Some(Vec::new()),
        }
    }
}

/// The values of one entity column, row by row.
#[derive(Debug)]
pub enum Values {
    /// All of them integers.
    Integers(Vec<i64>),
    /// All of them text.
    Texts(StringArray),
    /// Any.
    Any(Vec<Item>),
    /// Serialized `feast.types.Value`s, which bring their types with them.
    Wire(PackedBytes),
}

/// One value of an entity column.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// An integer that needs more than 64 bits: its digits.
    Big(String),
    /// A float.
    Float(f64),
    /// Text.
    Text(String),
    /// A list or an object, as JSON text.
    Nested(String),
}

impl Values {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Values::Integers(values) => values.len(),
            Values::Texts(values) => values.len(),
            Values::Any(values) => values.len(),
            Values::Wire(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads the body of a request. `Fault::Unexpected`: it is JSON, but no such request.
pub fn parse(text: &str) -> Result<Ask<'_>, Fault> {
    let (mut features, mut service, mut entities) = (None, None, None);
    let (mut full_feature_names, mut wants_versions) = (false, false);
    let mut is_asked = true;
    let mut reader = Reader::new(text);
    if reader.peek() != Some(b'{') {
        reader.skip()?;
        reader.end()?;
        return Err(Fault::Unexpected);
    }
    reader.object(|reader, name| {
        let is_right = match &*name {
            "entities" => keep(reader, &mut entities, columns)?,
            "features" => {
                let is_array = reader.peek() == Some(b'[');
                features = Some(reader.skip()?);
                is_array
            }
            "feature_service" => keep(reader, &mut service, optional_text)?,
            "full_feature_names" => set(reader, &mut full_feature_names)?,
            "include_feature_view_version_metadata" => set(reader, &mut wants_versions)?,
            _ => reader.skip().map(|_| true)?,
        };
        is_asked &= is_right;
        Ok(())
    })?;
    reader.end()?;
    let features = match (service.flatten(), features) {
        (Some(service), features) if !(*service).is_empty() => {
            is_asked &= features.is_none_or(|features| references(features).is_some());
            Features::Service(service)
        }
        (_, features) => Features::References(features.unwrap_or("[]")),
    };
    let Some(entities) = entities.filter(|_| is_asked) else { return Err(Fault::Unexpected) };
    Ok(Ask {
        features,
        entities,
        full_feature_names,
        include_feature_view_version_metadata: wants_versions,
    })
}

/// The references of a JSON array's text; `None` if it holds anything but strings.
pub fn references(text: &str) -> Option<Vec<String>> {
    let mut references = Vec::new();
    let read = Reader::new(text).array(|reader| match reader.scalar()? {
        Scalar::Text(reference) => {
            references.push(reference.into_owned());
            Ok(())
        }
        _ => Err(Fault::Unexpected),
    });
    read.ok().map(|()| references)
}

/// The references of a serialized `feast.serving.FeatureList`; `None` if it is none.
pub fn listed(list: &[u8]) -> Option<Vec<String>> {
    let (mut references, mut reader) = (Vec::new(), WireReader::new(list));
    while let Some(field) = reader.field().ok()? {
        if let (1, Payload::Bytes(reference)) = field {
            references.push(str::from_utf8(reference).ok()?.to_owned());
        }
    }
    Some(references)
}

/// Whether a scalar stands for a truth value where one is wanted, and which.
pub fn truth(scalar: &Scalar<'_>) -> Option<bool> {
    match scalar {
        Scalar::Bool(flag) => Some(*flag),
        Scalar::Number(Number::Integer(0)) => Some(false),
        Scalar::Number(Number::Integer(1)) => Some(true),
        Scalar::Number(Number::Float(number)) if *number == 0.0 => Some(false),
        Scalar::Number(Number::Float(number)) if *number == 1.0 => Some(true),
        Scalar::Text(word) => match word.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

type Read<'a, T> = fn(&mut Reader<'a>) -> Result<Option<T>, Fault>;

/// Reads a member, of which the last counts; false if it is of another type.
fn keep<'a, T>(
    reader: &mut Reader<'a>,
    slot: &mut Option<T>,
    read: Read<'a, T>,
) -> Result<bool, Fault> {
    *slot = read(reader)?;
    Ok(slot.is_some())
}

fn set(reader: &mut Reader<'_>, flag: &mut bool) -> Result<bool, Fault> {
    let found = match reader.peek() {
        Some(b'{' | b'[') => reader.skip().map(|_| None)?,
        _ => truth(&reader.scalar()?),
    };
    *flag = found.unwrap_or(*flag);
    Ok(found.is_some())
}

fn optional_text<'a>(reader: &mut Reader<'a>) -> Result<Option<Option<Cow<'a, str>>>, Fault> {
    Ok(match reader.peek() {
        Some(b'"') => Some(Some(reader.string()?)),
        Some(b'n') => reader.skip().map(|_| Some(None))?,
        _ => reader.skip().map(|_| None)?,
    })
}

type Columns<'a> = Vec<(Cow<'a, str>, Values)>;

fn columns<'a>(reader: &mut Reader<'a>) -> Result<Option<Columns<'a>>, Fault> {
    if reader.peek() != Some(b'{') {
        return reader.skip().map(|_| None);
    }
    let mut columns: Columns<'a> = Vec::new();
    let mut places: AHashMap<Cow<'a, str>, usize> = AHashMap::new();
    let mut are_lists = true;
    reader.object(|reader, name| {
        if reader.peek() != Some(b'[') {
            are_lists = false;
            return reader.skip().map(drop);
        }
        let values = values(reader, columns.last().map_or(0, |(_, other)| other.len()))?;
        let known = match columns.len() {
            0..FEW => columns.iter().position(|(known, _)| *known == name),
            count => {
                if places.is_empty() {
                    let known = columns.iter().enumerate();
                    places.extend(known.map(|(place, (name, _))| (name.clone(), place)));
                }
                match places.entry(name.clone()) {
                    Entry::Occupied(known) => Some(*known.get()),
                    Entry::Vacant(free) => {
                        free.insert(count);
                        None
                    }
                }
            }
        };
        match known.and_then(|place| columns.get_mut(place)) {
            Some((_, earlier)) => *earlier = values,
            None => columns.push((name, values)),
        }
        Ok(())
    })?;
    Ok(are_lists.then_some(columns))
}

/// An array of values; there are likely to be `expected`, but nothing was promised.
fn values(reader: &mut Reader<'_>, expected: usize) -> Result<Values, Fault> {
    let expected = expected.min(FEW);
    let mut column = Column::Integers(Vec::with_capacity(expected));
    reader.array(|reader| {
        match (&mut column, reader.peek()) {
            (Column::Integers(values), Some(b'-' | b'0'..=b'9')) => match reader.number()? {
                Number::Integer(number) => values.push(number),
                other => column.push(item_of(Scalar::Number(other))),
            },
            (Column::Integers(values), Some(b'"')) if values.is_empty() => {
                let mut texts = StringBuilder::with_capacity(expected, expected * 16);
                texts.append_value(reader.string()?);
                column = Column::Texts(texts);
            }
            (Column::Texts(texts), Some(b'"')) => texts.append_value(reader.string()?),
            (_, Some(b'{' | b'[')) => {
                let text = reader.skip()?.to_owned();
                column.push(Item::Nested(text));
            }
            _ => {
                let item = item_of(reader.scalar()?);
                column.push(item);
            }
        }
        Ok(())
    })?;
    Ok(column.finish())
}

fn item_of(scalar: Scalar<'_>) -> Item {
    match scalar {
        Scalar::Null => Item::Null,
        Scalar::Bool(flag) => Item::Bool(flag),
        Scalar::Number(Number::Integer(number)) => Item::Integer(number),
        Scalar::Number(Number::Big(digits)) => Item::Big(digits.to_owned()),
        Scalar::Number(Number::Float(number)) => Item::Float(number),
        Scalar::Text(text) => Item::Text(text.into_owned()),
    }
}

/// A column in the making.
enum Column {
    Integers(Vec<i64>),
    Texts(StringBuilder),
    Any(Vec<Item>),
}

impl Column {
    /// Appends a value of another kind than those before it.
    fn push(&mut self, item: Item) {
        let mut items: Vec<Item> = match self {
            Column::Any(items) => return items.push(item),
            Column::Integers(values) => values.drain(..).map(Item::Integer).collect(),
            Column::Texts(texts) => {
                let text = |text: Option<&str>| Item::Text(text.unwrap_or_default().to_owned());
                texts.finish().iter().map(text).collect()
            }
        };
        items.push(item);
        *self = Column::Any(items);
    }

    fn finish(self) -> Values {
        match self {
            Column::Integers(values) => Values::Integers(values),
            Column::Texts(mut texts) => Values::Texts(texts.finish()),
            Column::Any(items) => Values::Any(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Ask<'_> {
        parse(text).unwrap()
    }

    #[test]
    fn a_request_is_taken_apart() {
        let ask = ask(r#"{"entities": {"driver_id": [1001, -2], "name": ["a", "\u00fc"]},
                "features": ["v:f", "v:g"], "full_feature_names": "yes", "other": [{}]}"#);

        assert_eq!(ask.features, Features::References(r#"["v:f", "v:g"]"#));
        assert!(ask.full_feature_names && !ask.include_feature_view_version_metadata);
        let [(driver, Values::Integers(ids)), (name, Values::Texts(names))] = &ask.entities[..]
        else {
            panic!("{:?}", ask.entities)
        };
        assert_eq!((&**driver, &ids[..]), ("driver_id", &[1001, -2][..]));
        assert_eq!((&**name, names.value(1)), ("name", "ü"));
    }

    #[test]
    fn mixed_values_are_kept_as_they_are() {
        let ask =
            ask(r#"{"entities": {"k": [1, 1.5, null, true, "a", [1], 9223372036854775808]}}"#);

        let Values::Any(items) = &ask.entities[0].1 else { panic!("{:?}", ask.entities) };
        let expected = [
            Item::Integer(1),
            Item::Float(1.5),
            Item::Null,
            Item::Bool(true),
            Item::Text("a".to_owned()),
            Item::Nested("[1]".to_owned()),
            Item::Big("9223372036854775808".to_owned()),
        ];
        assert_eq!(items[..], expected);
    }

    #[test]
    fn of_keys_that_are_there_twice_the_last_counts() {
        let ask = ask(r#"{"entities": {"k": [1], "l": [3], "k": [2]}, "entities": {"k": [4]}}"#);
        assert!(matches!(&ask.entities[..], [(_, Values::Integers(k))] if k[..] == [4]));

        let many: Vec<_> = (0..40).map(|key| format!("\"k{}\": [{key}]", key % 20)).collect();
        let text = format!(r#"{{"entities": {{{}}}}}"#, many.join(","));
        let ask = parse(&text).unwrap();
        assert_eq!(ask.entities.len(), 20);
        assert!(matches!(&ask.entities[19], (_, Values::Integers(last)) if last[..] == [39]));
    }

    #[test]
    fn services_go_before_references() {
        let service = |text: &'static str| ask(text).features;
        assert_eq!(
            service(r#"{"entities": {}, "feature_service": "s", "features": ["v:f"]}"#),
            Features::Service("s".into())
        );
        assert_eq!(
            service(r#"{"entities": {}, "feature_service": "", "features": ["v:f"]}"#),
            Features::References(r#"["v:f"]"#)
        );
        assert_eq!(
            service(r#"{"entities": {}, "feature_service": null}"#),
            Features::References("[]")
        );
    }

    #[test]
    fn what_is_no_such_request_is_recognized() {
        let bodies = [
            "[]",
            "null",
            "{}",
            r#"{"entities": []}"#,
            r#"{"entities": {"k": 1}}"#,
            r#"{"entities": {}, "features": null}"#,
            r#"{"entities": {}, "feature_service": 1}"#,
            r#"{"entities": {}, "feature_service": "s", "features": [1]}"#,
            r#"{"entities": {}, "full_feature_names": 2}"#,
        ];
        for body in bodies {
            assert_eq!(parse(body).unwrap_err(), Fault::Unexpected, "{body}");
        }
        assert!(matches!(parse(r#"{"entities": {}"#).unwrap_err(), Fault::Malformed { .. }));
        assert_eq!(references(r#"["a", 1]"#), None);
    }
}
