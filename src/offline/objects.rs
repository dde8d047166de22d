//! The objects that a source is, pinned: found, and their footers fetched, many at a time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::bucket::{Bucket, ObjectStamp};
use super::listing::{self, FoundFile};
use super::source::{PinnedFile, Place, changed, not_parquet};
use crate::call::Call;
use crate::cloud::Stop;
use crate::error::{Error, ErrorKind, Result};

/// Footers fetched at one time.
const FOOTERS: usize = 16;
/// Most footers are no longer than this, so that one request brings them.
const FOOTER_BYTES: u64 = 64 << 10;
/// A Parquet file is no shorter: magic bytes at both ends, and the length of the footer.
const MIN_FILE_BYTES: u64 = 12;

/// The files at `key` of `bucket`: an object, what lies below a folder, or what a pattern matches.
pub(super) fn pin(bucket: &Arc<Bucket>, key: &str, call: &Call<'_>) -> Result<Vec<PinnedFile>> {
    let found = find(bucket, key, call)?;
    let footers = stream::iter(&found)
        .map(|(file, listed)| async move {
            call.check().map_err(Stop::ByCaller)?;
            footer(bucket, file, listed).await
        })
        .buffered(FOOTERS)
        .try_collect::<Vec<_>>();
    let footers = bucket.wait(call, footers).map_err(|stop| bucket.refused(key, stop))?;
    let pinned = found.into_iter().zip(footers).map(|((file, listed), (metadata, stamp))| {
        let place = Place::Object(Arc::clone(bucket), listed.location, stamp);
        let name = bucket.url(&file.path.to_string_lossy());
        PinnedFile { name, metadata, partitions: file.partitions, first_row: 0, place }
    });
    Ok(pinned.collect())
}

/// The objects at `key`, and what the store says of them.
pub(super) fn find(
    bucket: &Bucket,
    key: &str,
    call: &Call<'_>,
) -> Result<Vec<(FoundFile, ObjectMeta)>> {
    let prefix = listing::prefix_of(key);
    let may_be_one = prefix.is_none() && !key.is_empty() && !key.ends_with('/');
    if may_be_one && let Some(meta) = bucket.head(key, call)? {
        let path = Path::new(key).to_owned();
        return Ok(vec![(FoundFile { path, partitions: Vec::new() }, meta)]);
    }
    let mut listed = HashMap::new();
    if bucket.can_list() {
        for meta in bucket.list(prefix.as_deref().unwrap_or(key), call)? {
            listed.insert(meta.location.to_string(), meta);
        }
    }
    let keys: Vec<String> = listed.keys().cloned().collect();
    let chosen = listing::select(key, &keys)?.into_iter().filter_map(|file| {
        let meta = listed.remove(file.path.to_string_lossy().as_ref())?;
        Some((file, meta))
    });
    let chosen: Vec<_> = chosen.collect();
    if chosen.is_empty() { Err(not_found(bucket, key)) } else { Ok(chosen) }
}

/// What the object at `key` is known by now.
pub(super) fn stamp(
    bucket: &Bucket,
    key: &object_store::path::Path,
    call: &Call<'_>,
) -> Result<ObjectStamp> {
    let looked = bucket.wait(call, bucket.look(key, 0..1));
    looked.map(|(_, stamp)| stamp).map_err(|stop| bucket.refused(key.as_ref(), stop))
}

/// The footer of a file, and what it is known by from now on.
pub(super) async fn footer(
    bucket: &Bucket,
    file: &FoundFile,
    listed: &ObjectMeta,
) -> std::result::Result<(ArrowReaderMetadata, ObjectStamp), Stop> {
    let name = bucket.url(&file.path.to_string_lossy());
    let wrong = |cause| Stop::ByCaller(not_parquet(&name, cause));
    if listed.size < MIN_FILE_BYTES {
        return Err(wrong(ParquetError::EOF(format!("it has {} bytes", listed.size))));
    }
    let mut start = listed.size.saturating_sub(FOOTER_BYTES);
    loop {
        let (bytes, stamp) = bucket.look(&listed.location, start..listed.size).await?;
        if stamp.bytes != listed.size || bytes.len() as u64 != listed.size - start {
            return Err(Stop::ByCaller(changed(&name)));
        }
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&bytes, listed.size) {
            Ok(()) => {
                let metadata = reader.finish().and_then(arrow_metadata).map_err(wrong)?;
                return Ok((metadata, stamp));
            }
            Err(ParquetError::NeedMoreData(more))
                if more > bytes.len() && more as u64 <= listed.size =>
            {
                start = listed.size - more as u64;
            }
            Err(cause) => return Err(wrong(cause)),
        }
    }
}

fn arrow_metadata(metadata: ParquetMetaData) -> parquet::errors::Result<ArrowReaderMetadata> {
    ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
}

#[cold]
fn not_found(bucket: &Bucket, key: &str) -> Error {
    let what = if bucket.can_list() {
        "no such object, and no .parquet, .parq or .pq object below it or matched by it"
    } else {
        "no such file; on a web server, folders and patterns can't be listed"
    };
    Error::new(ErrorKind::SourceNotFound, format!("source path '{}': {what}", bucket.url(key)))
}
