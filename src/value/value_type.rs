//! `feast.types.ValueType`: the type that a feature or an entity is declared with.

use crate::error::{Error, ErrorKind, Result};

macro_rules! value_types {
    ($($variant:ident = $number:literal, $name:literal, $dtype:literal;)*) => {
        /// A declared type, with the number that it has in Feast's protobuf.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names are Feast's own")]
        pub enum ValueType { $($variant = $number),* }

        impl ValueType {
            /// Every type, in the order of the numbers.
            pub const ALL: &'static [ValueType] = &[$(ValueType::$variant),*];

            /// The type with that number in `feast.types.ValueType.Enum`, if there is one.
            pub fn from_number(number: i32) -> Option<Self> {
                match number { $($number => Some(ValueType::$variant),)* _ => None }
            }

            /// Feast's name in the protobuf: `INT64_LIST`.
            pub fn name(self) -> &'static str {
                match self { $(ValueType::$variant => $name),* }
            }

            /// How Feast's Python prints the dtype of a field: `Array(Int64)`.
            pub fn dtype(self) -> &'static str {
                match self { $(ValueType::$variant => $dtype),* }
            }
        }
    };
}

value_types! {
    Invalid = 0, "INVALID", "Invalid";
    Bytes = 1, "BYTES", "Bytes";
    String = 2, "STRING", "String";
    Int32 = 3, "INT32", "Int32";
    Int64 = 4, "INT64", "Int64";
    Double = 5, "DOUBLE", "Float64";
    Float = 6, "FLOAT", "Float32";
    Bool = 7, "BOOL", "Bool";
    UnixTimestamp = 8, "UNIX_TIMESTAMP", "UnixTimestamp";
    BytesList = 11, "BYTES_LIST", "Array(Bytes)";
    StringList = 12, "STRING_LIST", "Array(String)";
    Int32List = 13, "INT32_LIST", "Array(Int32)";
    Int64List = 14, "INT64_LIST", "Array(Int64)";
    DoubleList = 15, "DOUBLE_LIST", "Array(Float64)";
    FloatList = 16, "FLOAT_LIST", "Array(Float32)";
    BoolList = 17, "BOOL_LIST", "Array(Bool)";
    UnixTimestampList = 18, "UNIX_TIMESTAMP_LIST", "Array(UnixTimestamp)";
    Null = 19, "NULL", "Null";
    Map = 20, "MAP", "Map";
    MapList = 21, "MAP_LIST", "Array(Map)";
    BytesSet = 22, "BYTES_SET", "Set(Bytes)";
    StringSet = 23, "STRING_SET", "Set(String)";
    Int32Set = 24, "INT32_SET", "Set(Int32)";
    Int64Set = 25, "INT64_SET", "Set(Int64)";
    DoubleSet = 26, "DOUBLE_SET", "Set(Float64)";
    FloatSet = 27, "FLOAT_SET", "Set(Float32)";
    BoolSet = 28, "BOOL_SET", "Set(Bool)";
    UnixTimestampSet = 29, "UNIX_TIMESTAMP_SET", "Set(UnixTimestamp)";
    Json = 32, "JSON", "Json";
    JsonList = 33, "JSON_LIST", "Array(Json)";
    Struct = 34, "STRUCT", "Struct";
    StructList = 35, "STRUCT_LIST", "Array(Struct)";
    Uuid = 36, "UUID", "Uuid";
    TimeUuid = 37, "TIME_UUID", "TimeUuid";
    UuidList = 38, "UUID_LIST", "Array(Uuid)";
    TimeUuidList = 39, "TIME_UUID_LIST", "Array(TimeUuid)";
    UuidSet = 40, "UUID_SET", "Set(Uuid)";
    TimeUuidSet = 41, "TIME_UUID_SET", "Set(TimeUuid)";
    ValueList = 42, "VALUE_LIST", "Array(Array)";
    ValueSet = 43, "VALUE_SET", "Set(Array)";
    Decimal = 44, "DECIMAL", "Decimal";
    DecimalList = 45, "DECIMAL_LIST", "Array(Decimal)";
    DecimalSet = 46, "DECIMAL_SET", "Set(Decimal)";
    ScalarMap = 47, "SCALAR_MAP", "ScalarMap";
    ZonedTimestamp = 48, "ZONED_TIMESTAMP", "ZonedTimestamp";
}

impl ValueType {
    /// Like [`ValueType::from_number`], with an error that names `what` has the type.
    pub fn require(number: i32, what: &str) -> Result<Self> {
        Self::from_number(number).ok_or_else(|| {
            Error::new(
                ErrorKind::RegistryInvalid,
                format!("{what} has value type number {number}, which feastrs does not know"),
            )
        })
    }

    /// Whether a join key may have this type (`feast/infra/key_encoding_utils.py::_serialize_val`).
    pub fn is_key(self) -> bool {
        matches!(
            self,
            ValueType::String
                | ValueType::Bytes
                | ValueType::Int32
                | ValueType::Int64
                | ValueType::UnixTimestamp
        )
    }

    /// The scalar type of the elements of a list or set; `None` for every other type, nested
    /// collections and lists of maps included.
    pub fn element(self) -> Option<ValueType> {
        Some(match self {
            ValueType::BytesList | ValueType::BytesSet => ValueType::Bytes,
            ValueType::StringList | ValueType::StringSet => ValueType::String,
            ValueType::Int32List | ValueType::Int32Set => ValueType::Int32,
            ValueType::Int64List | ValueType::Int64Set => ValueType::Int64,
            ValueType::DoubleList | ValueType::DoubleSet => ValueType::Double,
            ValueType::FloatList | ValueType::FloatSet => ValueType::Float,
            ValueType::BoolList | ValueType::BoolSet => ValueType::Bool,
            ValueType::UnixTimestampList | ValueType::UnixTimestampSet => ValueType::UnixTimestamp,
            ValueType::JsonList => ValueType::Json,
            ValueType::UuidList | ValueType::UuidSet => ValueType::Uuid,
            ValueType::TimeUuidList | ValueType::TimeUuidSet => ValueType::TimeUuid,
            ValueType::DecimalList | ValueType::DecimalSet => ValueType::Decimal,
            _ => return None,
        })
    }

    /// The list type with elements of this type; `None` where Feast has none.
    pub fn list_of(self) -> Option<ValueType> {
        Some(match self {
            ValueType::Bytes => ValueType::BytesList,
            ValueType::String => ValueType::StringList,
            ValueType::Int32 => ValueType::Int32List,
            ValueType::Int64 => ValueType::Int64List,
            ValueType::Double => ValueType::DoubleList,
            ValueType::Float => ValueType::FloatList,
            ValueType::Bool => ValueType::BoolList,
            ValueType::UnixTimestamp => ValueType::UnixTimestampList,
            ValueType::Json => ValueType::JsonList,
            ValueType::Uuid => ValueType::UuidList,
            ValueType::TimeUuid => ValueType::TimeUuidList,
            ValueType::Decimal => ValueType::DecimalList,
            ValueType::Map => ValueType::MapList,
            _ => return None,
        })
    }

    /// Whether it is a set of scalars.
    pub fn is_set(self) -> bool {
        self.element().is_some() && self.name().ends_with("_SET")
    }
}
