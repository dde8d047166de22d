//! Many byte strings in one allocation: keys on their way to a store, values on their way
//! to the wire.

use std::collections::TryReserveError;

/// A list of byte strings, stored end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedBytes {
    data: Vec<u8>,
    // ends[i] is where item i ends; item 0 begins at 0.
    ends: Vec<usize>,
}

impl PackedBytes {
    /// Room for `items` strings of `bytes` bytes in all.
    pub fn with_capacity(items: usize, bytes: usize) -> Self {
        PackedBytes { data: Vec::with_capacity(bytes), ends: Vec::with_capacity(items) }
    }

    /// Makes room for `items` more strings of `bytes` bytes in all, if there is any.
    pub fn try_reserve(&mut self, items: usize, bytes: usize) -> Result<(), TryReserveError> {
        self.ends.try_reserve_exact(items)?;
        self.data.try_reserve_exact(bytes)
    }

    /// Appends one item that `write` builds at the end of the buffer.
    pub fn push_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = write(&mut self.data);
        self.ends.push(self.data.len());
        result
    }

    /// Appends a copy of `item`.
    pub fn push(&mut self, item: &[u8]) {
        self.push_with(|data| data.extend_from_slice(item));
    }

    /// The item at `index`. Panics past the end, as slices do.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.data[start..self.ends[index]]
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all items together.
    pub fn byte_len(&self) -> usize {
        self.data.len()
    }

    /// Forgets the items and keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_pushed() {
        let mut packed = PackedBytes::with_capacity(3, 8);
        packed.push(b"ab");
        packed.push(b"");
        packed.push_with(|data| data.push(7));

        assert_eq!(packed.iter().collect::<Vec<_>>(), [&b"ab"[..], b"", &[7]]);
        assert_eq!((packed.len(), packed.byte_len()), (3, 3));
    }
}
