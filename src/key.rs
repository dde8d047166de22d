//! Entity-key bytes, as `feast/infra/key_encoding_utils.py::serialize_entity_key` makes them. Stub.
use crate::error::Result;
use crate::value::{PackedBytes, ValueType};
use arrow_array::ArrayRef;
/// Version of the entity-key serialization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyVersion {
    /** 2 */
    V2,
    /** 3 */
    #[default]
    V3,
}
/// Encodes the keys of one set of join keys.
#[derive(Clone, Debug)]
pub struct KeyEncoder {
    version: KeyVersion,
}
impl KeyEncoder {
    /// For these join keys, in any order.
    pub fn new(version: KeyVersion, join_keys: &[(String, ValueType)]) -> Result<Self> {
        let _ = join_keys;
        Ok(KeyEncoder { version })
    }
    /// Encodes each row of `columns`, which stand in the order of `join_keys` as given to `new`
    /// and have the canonical Arrow type of their value type. Nulls are an error of kind NullKey.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<PackedBytes> {
        let _ = (self.version, columns);
        todo!()
    }
}
