//! A Parquet file in an object store, read by ranges in bounded memory.
//!
//! Parquet wants small pieces of many columns in turn; an object store wants few large requests.
//! So each region of a row group has a window of bytes, and the next one is fetched while this
//! one is decoded. Columns that lie side by side and fit the budget together are one region.

use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use object_store::path::Path;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::bucket::{Bucket, Fetch, ObjectStamp};
use super::source::changed;
use crate::error::{Error, Result};

/// A region may hold so much that nobody asked for, where that saves a request.
const MAX_GAP_BYTES: u64 = 256 << 10;
/// No request asks for more.
const MAX_REQUEST_BYTES: u64 = 8 << 20;
/// Smaller windows would cost more in requests than they save in memory.
const MIN_WINDOW_BYTES: u64 = 64 << 10;

/// An object as it was when it was first looked at, and the bytes of it that are at hand.
#[derive(Clone)]
pub(super) struct ObjectFile(Arc<Inner>);

struct Inner {
    bucket: Arc<Bucket>,
    key: Path,
    stamp: ObjectStamp,
    regions: Mutex<Vec<Region>>,
    // Parquet's errors hide ours.
    failure: Mutex<Option<Error>>,
}

/// Bytes that are wanted, and those of them that are at hand.
struct Region {
    range: Range<u64>,
    window_bytes: u64,
    start: u64,
    bytes: Bytes,
    next: Option<(Range<u64>, Fetch)>,
}

impl ObjectFile {
    /// The object at `key`, of which `wanted` ranges will be read, each from its begin to its
    /// end, with about `budget` bytes at hand. They begin to come at once.
    pub fn open(
        bucket: Arc<Bucket>,
        key: Path,
        stamp: ObjectStamp,
        wanted: &[Range<u64>],
        budget: u64,
    ) -> Self {
        let plan = regions(wanted, budget);
        let inner =
            Inner { bucket, key, stamp, regions: Mutex::default(), failure: Mutex::default() };
        let regions = plan.into_iter().map(|(range, window_bytes)| {
            let (start, bytes) = (range.start, Bytes::new());
            let mut region = Region { range, window_bytes, start, bytes, next: None };
            inner.fetch_ahead(&mut region);
            region
        });
        let regions = regions.collect();
        ObjectFile(Arc::new(Inner { regions: Mutex::new(regions), ..inner }))
    }

    /// The error that made a read fail, if it is one of the object's.
    pub fn take_failure(&self) -> Option<Error> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Inner {
    /// Bytes from `at` on: some, not past the end of the region.
    fn bytes_at(&self, at: u64) -> Result<Bytes> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(region) = regions.iter_mut().find(|region| region.range.contains(&at)) else {
            // Not what was announced, as a checksum between columns would be.
            let end = self.stamp.bytes.min(at + MIN_WINDOW_BYTES);
            return self.finish(self.bucket.fetch(&self.key, at..end, &self.stamp));
        };
        if !region.has(at) {
            let (window, fetch) = match region.next.take() {
                Some((window, fetch)) if window.contains(&at) => (window, fetch),
                // Rows were skipped: what was fetched ahead is behind.
                _ => {
                    let window = region.window(at);
                    let fetch = self.bucket.fetch(&self.key, window.clone(), &self.stamp);
                    (window, fetch)
                }
            };
            region.bytes = Bytes::new();
            region.bytes = self.finish(fetch)?;
            region.start = window.start;
            self.fetch_ahead(region);
        }
        Ok(region.bytes.slice((at - region.start) as usize..))
    }

    fn fetch_ahead(&self, region: &mut Region) {
        let window = region.window(region.start + region.bytes.len() as u64);
        if !window.is_empty() {
            let fetch = self.bucket.fetch(&self.key, window.clone(), &self.stamp);
            region.next = Some((window, fetch));
        }
    }

    fn finish(&self, fetch: Fetch) -> Result<Bytes> {
        let found = self.bucket.finish(&self.key, fetch)?;
        found.ok_or_else(|| changed(&self.bucket.url(self.key.as_ref())))
    }

    fn read_at(&self, at: u64) -> parquet::errors::Result<Bytes> {
        self.bytes_at(at).map_err(|error| {
            let text = error.to_string();
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            ParquetError::General(text)
        })
    }
}

impl Region {
    fn has(&self, at: u64) -> bool {
        at >= self.start && at < self.start + self.bytes.len() as u64
    }

    fn window(&self, start: u64) -> Range<u64> {
        start..self.range.end.min(start + self.window_bytes)
    }
}

/// The regions for `wanted`, and the window of each.
fn regions(wanted: &[Range<u64>], budget: u64) -> Vec<(Range<u64>, u64)> {
    let mut wanted: Vec<Range<u64>> = wanted.to_vec();
    wanted.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in &wanted {
        match joined.last_mut() {
            Some(last)
                if range.start <= last.end + MAX_GAP_BYTES
                    && range.end - last.start <= MAX_REQUEST_BYTES =>
            {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range.clone()),
        }
    }
    let bytes: u64 = joined.iter().map(|range| range.end - range.start).sum();
    if bytes <= budget {
        let whole = |range: Range<u64>| (range.clone(), range.end - range.start);
        return joined.into_iter().map(whole).collect();
    }
    // A window to decode from, and the one that comes.
    let window = budget / 2 / wanted.len().max(1) as u64;
    let window = window.clamp(MIN_WINDOW_BYTES, MAX_REQUEST_BYTES);
    wanted.into_iter().map(|range| (range, window)).collect()
}

impl Length for ObjectFile {
    fn len(&self) -> u64 {
        self.0.stamp.bytes
    }
}

impl ChunkReader for ObjectFile {
    type T = ObjectRead;

    fn get_read(&self, start: u64) -> parquet::errors::Result<ObjectRead> {
        Ok(ObjectRead { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut first = self.0.read_at(start)?;
        if first.len() >= length {
            first.truncate(length);
            return Ok(first);
        }
        let mut all = Vec::with_capacity(length);
        all.extend_from_slice(&first);
        while all.len() < length {
            let more = self.0.read_at(start + all.len() as u64)?;
            if more.is_empty() {
                return Err(ParquetError::EOF("the file ends inside a page".to_owned()));
            }
            all.extend_from_slice(&more[..more.len().min(length - all.len())]);
        }
        Ok(all.into())
    }
}

/// Reads on from where a page begins.
pub(super) struct ObjectRead {
    file: ObjectFile,
    at: u64,
}

impl Read for ObjectRead {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if into.is_empty() || self.at >= self.file.len() {
            return Ok(0);
        }
        let mut bytes = self.file.0.read_at(self.at).map_err(std::io::Error::other)?;
        let count = into.len().min(bytes.len());
        bytes.copy_to_slice(&mut into[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;
    use crate::ErrorKind;
    use crate::call::Call;

    const MB: u64 = 1 << 20;
    const KEY: &str = "a/x.parquet";

    /// A file of `bytes`, and the store that it is in.
    fn open(bytes: &[u8], wanted: &[Range<u64>]) -> (ObjectFile, Arc<InMemory>) {
        let store = Arc::new(InMemory::new());
        put(&store, bytes);
        let bucket = Arc::new(Bucket::in_memory(store.clone()));
        let key = bucket.path(KEY).unwrap();
        let look = bucket.look(&key, 0..1);
        let (_, stamp) = bucket.wait(&Call::unlimited(), look).map_err(drop).unwrap();
        (ObjectFile::open(bucket, key, stamp, wanted, 0), store)
    }

    fn put(store: &Arc<InMemory>, bytes: &[u8]) {
        let bucket = Bucket::in_memory(store.clone());
        let (key, payload) = (bucket.path(KEY).unwrap(), bytes.to_vec().into());
        let written = bucket.wait(&Call::unlimited(), store.put(&key, payload));
        assert!(written.is_ok());
    }

    fn numbers(count: u64) -> Vec<u8> {
        (0..count).flat_map(u64::to_le_bytes).collect()
    }

    #[test]
    fn any_piece_is_what_the_object_has_there() {
        let bytes = numbers(MB / 8);
        let (file, _) = open(&bytes, &[0..700_000, 700_000..MB]);
        let pieces = [
            // On and on, over the end of a window, far ahead, back, and what nobody announced.
            (0, 10),
            (10, 70_000),
            (70_010, 200_000),
            (600_000, 100_000),
            (5, 20),
            (700_000, 300_000),
            (1_048_570, 6),
        ];
        for (start, length) in pieces {
            let found = file.get_bytes(start as u64, length).unwrap();
            assert_eq!(found, bytes[start..start + length], "{length} bytes at {start}");
            let mut read = vec![0; length];
            file.get_read(start as u64).unwrap().read_exact(&mut read).unwrap();
            assert_eq!(read, bytes[start..start + length]);
        }
        assert_eq!(Length::len(&file), MB);
        assert!(file.take_failure().is_none());
    }

    #[test]
    fn an_object_that_is_another_now_is_an_error() {
        let (file, store) = open(&numbers(MB / 8), std::slice::from_ref(&(0..MB)));
        assert!(file.get_bytes(0, 8).is_ok());
        put(&store, &numbers(MB / 4));

        assert!(file.get_bytes(500_000, 8).is_err());

        let failure = file.take_failure().unwrap();
        assert_eq!(failure.kind(), ErrorKind::SourceChanged);
        assert!(failure.to_string().contains("'s3://bucket/a/x.parquet' changed"), "{failure}");
    }

    #[test]
    fn neighbours_that_fit_are_one_request() {
        let wanted = [MB..2 * MB, 0..MB, 2 * MB + 10..3 * MB, 20 * MB..21 * MB];
        assert_eq!(regions(&wanted, 16 * MB), [(0..3 * MB, 3 * MB), (20 * MB..21 * MB, MB)]);
        assert_eq!(regions(&[], MB), []);
    }

    #[test]
    fn what_does_not_fit_has_a_window_for_each_column() {
        let wanted = [0..40 * MB, 40 * MB..41 * MB];
        assert_eq!(regions(&wanted, 16 * MB), [(0..40 * MB, 4 * MB), (40 * MB..41 * MB, 4 * MB)]);
        assert_eq!(regions(&wanted, 0)[0].1, MIN_WINDOW_BYTES);
    }
}
