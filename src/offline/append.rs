//! Rows added to a Parquet source; here on disk: to a file by writing it anew beside and renaming,
//! to a folder as a file of its own. Whoever reads meanwhile sees the old rows or all; a crash
//! leaves the source as it was. Who appends at the same time waits for a lock on the file.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::reader::ChunkReader;
use tempfile::NamedTempFile;

use super::bucket::Address;
use super::source::not_parquet;
use super::{append_object, listing};
use crate::call::{Call, now_micros};
use crate::cloud::CloudSettings;
use crate::error::{Error, ErrorKind, Result};

/// Between two looks at a lock that another holds.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Where Parquet keeps the Arrow schema, which the writer writes anew.
const ARROW_SCHEMA: &str = "ARROW:schema";

/// Adds the rows of `batches` to the source at `path` (a file or a folder; absolute, relative to
/// `repo_path`, a `file://` URI, or at `s3://` or `gs://`), in the types that the source has; gives
/// their number. The columns must be those of the source, in any order.
pub fn append(
    path: &str,
    repo_path: Option<&Path>,
    batches: &[RecordBatch],
    settings: &CloudSettings,
    call: &Call<'_>,
) -> Result<u64> {
    if let Some(address) = Address::parse(path) {
        append_object::append(&address, batches, settings, call)?;
        return Ok(count(batches));
    }
    let full = listing::resolve(path, repo_path)?;
    match full.is_dir() {
        true => add_file(path, &full, repo_path, batches, call),
        false => rewrite(&full, batches, call),
    }
}

/// Puts a file with the rows into `folder`, with the columns of the first that is there.
fn add_file(
    path: &str,
    folder: &Path,
    repo_path: Option<&Path>,
    batches: &[RecordBatch],
    call: &Call<'_>,
) -> Result<u64> {
    let found = listing::find(path, repo_path)?;
    let Some(first) = found.first().filter(|first| first.partitions.is_empty()) else {
        return Err(append_object::divided(&folder.display().to_string()));
    };
    let file = File::open(&first.path).map_err(|cause| refused(&first.path, cause))?;
    let old = metadata(&file, &first.path)?;
    let rows = fitted(batches, old.schema(), folder)?;
    let mut beside = beside(folder)?;
    let properties = properties(&old).build();
    write(beside.as_file_mut(), &old, properties, None::<File>, &rows, call)
        .map_err(|cause| failed(folder, cause))?;
    let name = format!("push-{:020}-{}.parquet", now_micros(), std::process::id());
    finish(beside, &folder.join(name))?;
    Ok(count(batches))
}

/// Writes the file anew, with the rows behind its own.
fn rewrite(path: &Path, batches: &[RecordBatch], call: &Call<'_>) -> Result<u64> {
    // A link stays one: what it leads to is replaced.
    let path = &path.canonicalize().map_err(|cause| refused(path, cause))?;
    let file = locked(path, call)?;
    let old = metadata(&file, path)?;
    let rows = fitted(batches, old.schema(), path)?;
    let mut beside = beside(path.parent().unwrap_or(Path::new("/")))?;
    let before = file.try_clone().map_err(|cause| refused(path, cause))?;
    let properties = properties(&old).build();
    write(beside.as_file_mut(), &old, properties, Some(before), &rows, call)
        .map_err(|cause| failed(path, cause))?;
    let permissions = file.metadata().map_err(|cause| refused(path, cause))?.permissions();
    beside.as_file().set_permissions(permissions).map_err(|cause| refused(path, cause))?;
    finish(beside, path)?;
    Ok(count(batches))
}

/// The file at `path`, locked, and still the one there.
fn locked(path: &Path, call: &Call<'_>) -> Result<File> {
    loop {
        call.check()?;
        let file = File::open(path).map_err(|cause| refused(path, cause))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                thread::sleep(LOCK_PAUSE);
                continue;
            }
            Err(TryLockError::Error(cause)) => return Err(refused(path, cause)),
        }
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let held = file.metadata().map(identity).map_err(|cause| refused(path, cause))?;
        let now = fs::metadata(path).map(identity).map_err(|cause| refused(path, cause))?;
        // Whoever held it before may have put another in its place.
        if held == now {
            return Ok(file);
        }
    }
}

fn metadata(file: &File, path: &Path) -> Result<ArrowReaderMetadata> {
    ArrowReaderMetadata::load(file, ArrowReaderOptions::new())
        .map_err(|cause| not_parquet(&path.display().to_string(), cause))
}

/// The batches with the columns of `schema`, in its order and types.
pub(super) fn fitted(
    batches: &[RecordBatch],
    schema: &SchemaRef,
    path: &Path,
) -> Result<Vec<RecordBatch>> {
    batches.iter().map(|batch| fit(batch, schema, path)).collect()
}

fn fit(batch: &RecordBatch, schema: &SchemaRef, path: &Path) -> Result<RecordBatch> {
    let given = batch.schema_ref();
    let extra = given.fields().iter().filter(|field| schema.index_of(field.name()).is_err());
    let extra: Vec<&str> = extra.map(|field| field.name().as_str()).collect();
    let missing = schema.fields().iter().filter(|field| given.index_of(field.name()).is_err());
    let missing: Vec<&str> = missing.map(|field| field.name().as_str()).collect();
    if !extra.is_empty() || !missing.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "the columns of the frame are not those of the source '{}': missing are [{}], too \
                 many are [{}]",
                path.display(),
                missing.join(", "),
                extra.join(", ")
            ),
        ));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mismatch = |cause| {
            Error::new(
                ErrorKind::TypeMismatch,
                format!(
                    "column '{}' can't be written to the source '{}', which has {} there",
                    field.name(),
                    path.display(),
                    field.data_type()
                ),
            )
            .with_source(cause)
        };
        let index = given.index_of(field.name()).map_err(mismatch)?;
        let column = batch.column(index);
        columns.push(cast_with_options(column, field.data_type(), &options).map_err(mismatch)?);
    }
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|cause| {
        let message = format!("the frame can't be written to the source '{}'", path.display());
        Error::new(ErrorKind::TypeMismatch, message).with_source(cause)
    })
}

/// Writes a file of the rows of `before`, if there is such a file, and then `rows`.
pub(super) fn write(
    out: impl Write + Send,
    old: &ArrowReaderMetadata,
    properties: WriterProperties,
    before: Option<impl ChunkReader + 'static>,
    rows: &[RecordBatch],
    call: &Call<'_>,
) -> std::result::Result<(), ParquetError> {
    let stopped = |error: Error| ParquetError::External(Box::new(error));
    let mut writer = ArrowWriter::try_new(out, old.schema().clone(), Some(properties))?;
    if let Some(file) = before {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, old.clone());
        for batch in builder.build()? {
            call.check().map_err(stopped)?;
            writer.write(&batch?)?;
        }
    }
    for batch in rows {
        call.check().map_err(stopped)?;
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(())
}

/// Compression and metadata as the source has them.
pub(super) fn properties(old: &ArrowReaderMetadata) -> WriterPropertiesBuilder {
    let file = old.metadata();
    let first = file.row_groups().first().and_then(|group| group.columns().first());
    let compression = first.map_or(Compression::SNAPPY, |column| column.compression());
    let kept = file
        .file_metadata()
        .key_value_metadata()
        .map(|pairs| pairs.iter().filter(|pair| pair.key != ARROW_SCHEMA).cloned().collect());
    WriterProperties::builder().set_compression(compression).set_key_value_metadata(kept)
}

pub(super) fn beside(folder: &Path) -> Result<NamedTempFile> {
    // Readers of folders leave hidden files out.
    let made = tempfile::Builder::new().prefix(".push-").suffix(".tmp").tempfile_in(folder);
    made.map_err(|cause| refused(folder, cause))
}

/// Gives the file its name once its bytes are on disk.
pub(super) fn finish(beside: NamedTempFile, path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let done = beside.as_file().sync_all().and_then(|()| {
        beside.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    });
    done.map_err(|cause| refused(path, cause))
}

fn count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

#[cold]
fn refused(path: &Path, cause: io::Error) -> Error {
    let kind = match cause.kind() {
        io::ErrorKind::NotFound => ErrorKind::SourceNotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("can't append to '{}'", path.display())).with_source(cause)
}

#[cold]
pub(super) fn failed(path: &Path, cause: ParquetError) -> Error {
    match cause {
        ParquetError::External(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => {
                Error::new(ErrorKind::Io, format!("can't append to '{}'", path.display()))
                    .with_source(source)
            }
        },
        cause => Error::new(ErrorKind::Io, format!("can't append to '{}'", path.display()))
            .with_source(cause),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Array, Int32Array, Int64Array, StringArray};

    use super::*;

    fn rows(numbers: &[i64]) -> RecordBatch {
        let texts = StringArray::from_iter_values(numbers.iter().map(|number| number.to_string()));
        let numbers = Int64Array::from(numbers.to_vec());
        RecordBatch::try_from_iter([
            ("n", Arc::new(numbers) as Arc<dyn Array>),
            ("text", Arc::new(texts)),
        ])
        .unwrap()
    }

    fn make(path: &Path, numbers: &[i64]) {
        let batch = rows(numbers);
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None);
        writer.as_mut().unwrap().write(&batch).unwrap();
        writer.unwrap().close().unwrap();
    }

    fn numbers(path: &Path) -> Vec<i64> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let batches = reader.build().unwrap().map(|batch| batch.unwrap());
        batches
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect()
    }

    fn add(path: &Path, batch: &RecordBatch) -> Result<u64> {
        let (path, batches) = (path.to_str().unwrap(), std::slice::from_ref(batch));
        append(path, None, batches, &CloudSettings::default(), &Call::unlimited())
    }

    #[test]
    fn a_file_is_replaced_by_one_with_the_rows_behind_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        make(&path, &[1, 2]);
        let link = folder.path().join("link.parquet");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        // Other order, narrower type.
        let texts = Arc::new(StringArray::from(vec!["3"]));
        let batch = RecordBatch::try_from_iter([
            ("text", texts as Arc<dyn Array>),
            ("n", Arc::new(Int32Array::from(vec![3]))),
        ]);

        assert_eq!(add(&link, &batch.unwrap()).unwrap(), 1);

        assert_eq!(numbers(&path), [1, 2, 3]);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn a_folder_gets_a_file() {
        let folder = tempfile::tempdir().unwrap();
        make(&folder.path().join("part-0.parquet"), &[1]);

        add(folder.path(), &rows(&[2, 3])).unwrap();

        let found = listing::find(folder.path().to_str().unwrap(), None).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(numbers(&found[1].path), [2, 3]);
    }

    #[test]
    fn those_who_append_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        make(&path, &[0]);

        thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for i in 0..5 {
                        add(path, &rows(&[1 + writer * 5 + i])).unwrap();
                    }
                });
            }
        });

        let mut found = numbers(&path);
        found.sort_unstable();
        assert_eq!(found, (0..21).collect::<Vec<_>>());
    }

    #[test]
    fn other_columns_and_types_are_refused_and_nothing_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        make(&path, &[1]);
        let texts = Arc::new(StringArray::from(vec!["x"])) as Arc<dyn Array>;
        let other =
            RecordBatch::try_from_iter([("n", texts.clone()), ("m", texts.clone())]).unwrap();
        let error = add(&path, &other).unwrap_err().to_string();
        assert!(error.ends_with("missing are [text], too many are [m]"), "{error}");
        let text = RecordBatch::try_from_iter([("n", texts.clone()), ("text", texts)]).unwrap();
        assert_eq!(add(&path, &text).unwrap_err().kind(), ErrorKind::TypeMismatch);
        let none = add(&folder.path().join("none.parquet"), &rows(&[1])).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::SourceNotFound);

        assert_eq!(numbers(&path), [1]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
