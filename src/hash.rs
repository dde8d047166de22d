//! Redis field names: murmur3, 32 bits, seed 0, little endian. Stub.
/// The Redis field of a feature: murmur3-32 of `<view>:<feature>`, little endian
/// (`feast/infra/online_stores/helpers.py::_mmh3`).
pub fn field_name(view: &str, feature: &str) -> [u8; 4] {
    let _ = (view, feature);
    todo!()
}
