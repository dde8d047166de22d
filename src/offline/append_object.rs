//! Rows added to a Parquet source in an object store: to a folder as an object of its own; to an
//! object by writing it anew, if it is still the one that was read, and else once more.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use arrow_array::RecordBatch;
use bytes::Bytes;
use object_store::PutMode;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::KeyValue;

use super::append::{failed, fitted, properties, write};
use super::bucket::{Address, Bucket};
use super::objects::{self, footer};
use super::source::not_parquet;
use crate::call::{Call, now_micros};
use crate::cloud::{CloudSettings, Purpose};
use crate::error::{Error, ErrorKind, Result};

/// How often an object is written anew that somebody else was faster with.
const WRITES: u32 = 8;
/// A name in an object's metadata: no two writes give the same bytes, even if their rows are equal.
const WRITE_ID: &str = "feastrs.write_id";

/// Adds the rows of `batches` to the object or folder at `address`. An object is held in memory.
pub(super) fn append(
    address: &Address,
    batches: &[RecordBatch],
    settings: &CloudSettings,
    call: &Call<'_>,
) -> Result<()> {
    let bucket = Bucket::open(address, settings, Purpose::Write, call)?;
    let found = objects::find(&bucket, &address.key, call)?;
    match found.first() {
        Some((file, listed)) if listed.location != bucket.path(&address.key)? => {
            if !file.partitions.is_empty() {
                return Err(divided(&bucket.url(&address.key)));
            }
            let old = bucket
                .wait(call, footer(&bucket, file, listed))
                .map_err(|stop| bucket.refused(&address.key, stop))?;
            add_object(&bucket, &address.key, &old.0, batches, call)
        }
        _ => rewrite(&bucket, &address.key, batches, call),
    }
}

/// Puts an object with the rows below `folder`, with the columns of `old`.
fn add_object(
    bucket: &Bucket,
    folder: &str,
    old: &ArrowReaderMetadata,
    batches: &[RecordBatch],
    call: &Call<'_>,
) -> Result<()> {
    let folder = folder.trim_end_matches('/');
    let rows = fitted(batches, old.schema(), Path::new(&bucket.url(folder)))?;
    // Nobody else has that name, so a request that is repeated does no harm.
    let key = format!("{folder}/push-{:020}-{}.parquet", now_micros(), write_id());
    let key = key.trim_start_matches('/');
    let bytes = encoded(&bucket.url(key), old, None, &rows, call)?;
    bucket.put(key, bytes, PutMode::Overwrite, call).map(drop)
}

/// Writes the object anew, with the rows behind its own.
fn rewrite(bucket: &Bucket, key: &str, batches: &[RecordBatch], call: &Call<'_>) -> Result<()> {
    let url = bucket.url(key);
    let mut written: Option<Bytes> = None;
    for _ in 0..WRITES {
        let (before, version) = bucket.get(key, call)?;
        // A reply was lost, and the write that was repeated found the one that it repeats.
        if written.as_ref() == Some(&before) {
            return Ok(());
        }
        let old = ArrowReaderMetadata::load(&before, ArrowReaderOptions::new())
            .map_err(|cause| not_parquet(&url, cause))?;
        let rows = fitted(batches, old.schema(), Path::new(&url))?;
        let bytes = encoded(&url, &old, Some(before), &rows, call)?;
        if bucket.put(key, bytes.clone(), PutMode::Update(version), call)? {
            return Ok(());
        }
        written = Some(bytes);
    }
    Err(Error::new(
        ErrorKind::SourceUnavailable,
        format!(
            "'{url}' is written over by others all the time; the rows are not in it. Let the \
             source be a folder, which rows are added to without a conflict"
        ),
    ))
}

/// A file of the rows of `before`, if there are such, and then `rows`.
fn encoded(
    url: &str,
    old: &ArrowReaderMetadata,
    before: Option<Bytes>,
    rows: &[RecordBatch],
    call: &Call<'_>,
) -> Result<Bytes> {
    let mut properties = properties(old).build();
    let mut pairs = properties.key_value_metadata().cloned().unwrap_or_default();
    pairs.retain(|pair| pair.key != WRITE_ID);
    pairs.push(KeyValue::new(WRITE_ID.to_owned(), write_id()));
    properties = properties.into_builder().set_key_value_metadata(Some(pairs)).build();
    let mut bytes = Vec::new();
    write(&mut bytes, old, properties, before, rows, call)
        .map_err(|cause| failed(Path::new(url), cause))?;
    Ok(bytes.into())
}

/// Sixteen letters that no other write has.
fn write_id() -> String {
    format!("{:016x}", RandomState::new().hash_one(now_micros()))
}

#[cold]
pub(super) fn divided(folder: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "'{folder}' is divided into folders by columns, which can't be appended to; write the \
             rows with the tool that made it"
        ),
    )
}
