//! Rows written to a Parquet file of their own: on disk under their name once they are complete,
//! or as an object, which is held in memory until then.

use std::fs;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use object_store::PutMode;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tempfile::NamedTempFile;

use super::append::{beside, finish};
use super::bucket::{Address, Bucket};
use super::{listing, objects};
use crate::call::Call;
use crate::cloud::{CloudSettings, Purpose};
use crate::error::{Error, ErrorKind, Result};

/// The file of a folder that rows are written to.
const PART: &str = "part-0.parquet";

/// A Parquet file in the making.
pub struct ParquetSink {
    writer: Writer,
    name: String,
}

enum Writer {
    Disk(ArrowWriter<NamedTempFile>, PathBuf),
    Object(ArrowWriter<Vec<u8>>, Bucket, String),
}

impl ParquetSink {
    /// A file for rows of `schema` at `path`: one that ends in `.parquet`, or a folder, which gets
    /// one; on disk, or at `s3://` or `gs://`. What is there stays, and is an error, unless
    /// `allow_overwrite`.
    pub fn open(
        path: &str,
        repo_path: Option<&Path>,
        schema: &SchemaRef,
        allow_overwrite: bool,
        settings: &CloudSettings,
        call: &Call<'_>,
    ) -> Result<Self> {
        let is_file = path.ends_with(".parquet");
        if let Some(address) = Address::parse(path) {
            let bucket = Bucket::open(&address, settings, Purpose::Write, call)?;
            let is_there = match is_file {
                true => bucket.head(&address.key, call)?.is_some(),
                false => objects::find(&bucket, &address.key, call).is_ok(),
            };
            if is_there && !allow_overwrite {
                return Err(exists(path));
            }
            let key = match is_file {
                true => address.key,
                false => format!("{}/{PART}", address.key.trim_end_matches('/')),
            };
            let name = bucket.url(&key);
            let writer = writer(Vec::new(), schema).map_err(|cause| failed(&name, cause))?;
            return Ok(ParquetSink { writer: Writer::Object(writer, bucket, key), name });
        }
        let full = listing::resolve(path, repo_path)?;
        if full.exists() && !allow_overwrite {
            return Err(exists(&full.display().to_string()));
        }
        let file = if is_file { full } else { full.join(PART) };
        let name = file.display().to_string();
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|cause| {
            let message = format!("can't make the folder '{}'", folder.display());
            Error::new(ErrorKind::Io, message).with_source(cause)
        })?;
        let writer = writer(beside(folder)?, schema).map_err(|cause| failed(&name, cause))?;
        Ok(ParquetSink { writer: Writer::Disk(writer, file), name })
    }

    /// Writes some rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = match &mut self.writer {
            Writer::Disk(writer, _) => writer.write(batch),
            Writer::Object(writer, ..) => writer.write(batch),
        };
        written.map_err(|cause| failed(&self.name, cause))
    }

    /// Gives the file its name; where it is.
    pub fn finish(self, call: &Call<'_>) -> Result<String> {
        let failed = |cause| failed(&self.name, cause);
        match self.writer {
            Writer::Disk(writer, file) => {
                finish(writer.into_inner().map_err(failed)?, &file)?;
            }
            Writer::Object(writer, bucket, key) => {
                let bytes = writer.into_inner().map_err(failed)?;
                bucket.put(&key, bytes.into(), PutMode::Overwrite, call)?;
            }
        }
        Ok(self.name)
    }
}

fn writer<W: std::io::Write + Send>(
    out: W,
    schema: &SchemaRef,
) -> std::result::Result<ArrowWriter<W>, ParquetError> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    ArrowWriter::try_new(out, schema.clone(), Some(properties))
}

#[cold]
fn exists(place: &str) -> Error {
    Error::new(
        ErrorKind::TargetExists,
        format!("there is something at '{place}' already; give allow_overwrite=True to replace it"),
    )
}

#[cold]
fn failed(name: &str, cause: ParquetError) -> Error {
    Error::new(ErrorKind::Io, format!("can't write '{name}'")).with_source(cause)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn rows(values: Vec<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        RecordBatch::try_from_iter([("x", column)]).unwrap()
    }

    fn open(path: &Path, allow_overwrite: bool) -> Result<ParquetSink> {
        let (text, schema) = (path.display().to_string(), rows(vec![]).schema());
        let settings = CloudSettings::default();
        ParquetSink::open(&text, None, &schema, allow_overwrite, &settings, &Call::unlimited())
    }

    #[test]
    fn a_file_has_its_name_once_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b.parquet");
        let mut sink = open(&file, false).unwrap();
        sink.write(&rows(vec![1, 2])).unwrap();
        sink.write(&rows(vec![3])).unwrap();
        assert!(!file.exists());
        assert_eq!(sink.finish(&Call::unlimited()).unwrap(), file.display().to_string());

        let read = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&file).unwrap());
        let read: Vec<_> = read.unwrap().build().unwrap().map(|batch| batch.unwrap()).collect();
        assert_eq!(read, [rows(vec![1, 2, 3])]);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);

        assert_eq!(open(&file, false).err().unwrap().kind(), ErrorKind::TargetExists);
        drop(open(&file, true).unwrap());
        assert!(file.exists());
    }

    #[test]
    fn a_folder_gets_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let sink = open(&folder.path().join("set"), false).unwrap();
        assert!(sink.finish(&Call::unlimited()).unwrap().ends_with("set/part-0.parquet"));
    }
}
