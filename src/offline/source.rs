//! Which files a Parquet `FileSource` is, pinned: what tells one state of a file from another,
//! and its footer, as first seen.
//!
//! Files are opened anew for each row group (a folder may hold more of them than a process may
//! hold open), and what is opened is compared with what was pinned.

use std::fs::{self, File, Metadata};
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arrow_schema::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::bucket::{Address, Bucket, ObjectStamp, StopSwitch};
use super::listing::{self, FolderValue, FoundFile};
use super::object_file::{ObjectFile, ObjectRead};
use super::objects;
use crate::call::Call;
use crate::cloud::{CloudSettings, Purpose};
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::DataSource;

/// The files of one source, in the order in which their rows count.
#[derive(Clone, Debug)]
pub struct SourceFiles {
    files: Vec<PinnedFile>,
    rows: u64,
    stop: StopSwitch,
}

/// One file as it was when the source was first looked at.
#[derive(Clone, Debug)]
pub struct PinnedFile {
    /// Its path or URL, for messages.
    pub name: String,
    /// Its footer and schema.
    pub metadata: ArrowReaderMetadata,
    /// Columns that the folder names give: `day=3` is `("day", Number(3))`.
    pub partitions: Vec<(String, FolderValue)>,
    /// Rows of the source before this file.
    pub first_row: u64,
    pub(super) place: Place,
}

/// Where a file is, and what changes when it does.
#[derive(Clone)]
pub(super) enum Place {
    Disk(PathBuf, Stamp),
    Object(Arc<Bucket>, object_store::path::Path, ObjectStamp),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Disk(..) => "on disk",
            Place::Object(..) => "in an object store",
        })
    }
}

/// What changes when a file does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(metadata),
        }
    }
}

impl SourceFiles {
    /// Finds and pins the files at `path`: a file, a folder or a glob; on disk (absolute, relative
    /// to `repo_path`, or a `file://` URI) or at `s3://` or `gs://`; a file at `http(s)://`.
    pub fn pin(
        path: &str,
        repo_path: Option<&Path>,
        settings: &CloudSettings,
        call: &Call<'_>,
    ) -> Result<Self> {
        if let Some(address) = Address::parse(path) {
            let bucket = Arc::new(Bucket::open(&address, settings, Purpose::Read, call)?);
            let stop = bucket.stop().clone();
            return Ok(SourceFiles::of(objects::pin(&bucket, &address.key, call)?, stop));
        }
        let mut files = Vec::new();
        for found in listing::find(path, repo_path)? {
            call.check()?;
            files.push(PinnedFile::on_disk(found)?);
        }
        Ok(SourceFiles::of(files, StopSwitch::default()))
    }

    /// Finds and pins the files of `source`.
    pub fn pin_source(source: &DataSource, config: &RepoConfig, call: &Call<'_>) -> Result<Self> {
        let settings = cloud_settings(source, config);
        SourceFiles::pin(&source.path, config.repo_path.as_deref(), &settings, call)
    }

    fn of(mut files: Vec<PinnedFile>, stop: StopSwitch) -> Self {
        let mut rows = 0;
        for file in &mut files {
            file.first_row = rows;
            rows += file.rows();
        }
        SourceFiles { files, rows, stop }
    }

    /// The files in order.
    pub fn files(&self) -> &[PinnedFile] {
        &self.files
    }

    /// Rows of all files together.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends reading, wherever it waits.
    pub fn stop(&self) -> &StopSwitch {
        &self.stop
    }

    /// [`ErrorKind::SourceChanged`] if a file is not what was pinned: who has read it all and draws
    /// conclusions from what others made of it can ask once more.
    pub fn require_unchanged(&self, call: &Call<'_>) -> Result<()> {
        self.files.iter().try_for_each(|file| {
            call.check()?;
            match &file.place {
                Place::Disk(..) => file.open(&[], 0).map(drop),
                Place::Object(bucket, key, stamp) => {
                    let now = objects::stamp(bucket, key, call)?;
                    if now == *stamp { Ok(()) } else { Err(changed(&file.name)) }
                }
            }
        })
    }

    /// The row of that number for a message: its place in its file, and the file.
    pub fn locate(&self, row: u64) -> String {
        match self.files.iter().rev().find(|file| file.first_row <= row) {
            Some(file) => format!("row {} of file '{}'", row - file.first_row, file.name),
            None => format!("row {row}"),
        }
    }

    /// Checks that every file has the column `name` once, needed as `role` ("the join key 'x'").
    pub fn require_column(&self, name: &str, role: &str) -> Result<()> {
        if let Some(file) = self.files.iter().find(|file| file.has_column_twice(name)) {
            return Err(Error::new(
                ErrorKind::SourceInvalid,
                format!(
                    "file '{}' has more than one column '{name}', which is {role}: which of them \
                     is meant can't be told",
                    file.name
                ),
            ));
        }
        match self.files.iter().find(|file| !file.has_column(name)) {
            Some(file) => Err(Error::new(
                ErrorKind::SourceInvalid,
                format!(
                    "file '{}' has no column '{name}', which is {role}; its columns are {}",
                    file.name,
                    file.column_names().join(", ")
                ),
            )),
            None => Ok(()),
        }
    }
}

impl PinnedFile {
    fn on_disk(found: FoundFile) -> Result<Self> {
        let path = found.path;
        let name = path.display().to_string();
        let file = open(&path)?;
        let stamp = Stamp::of(&file.metadata().map_err(|cause| unreadable(&path, cause))?);
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|cause| not_parquet(&name, cause))?;
        let place = Place::Disk(path, stamp);
        Ok(PinnedFile { name, metadata, partitions: found.partitions, first_row: 0, place })
    }

    /// How many rows the footer promises.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Whether the file, or the folders it lies in, have a column of that name.
    pub fn has_column(&self, name: &str) -> bool {
        self.metadata.schema().column_with_name(name).is_some()
            || self.partitions.iter().any(|(column, _)| column == name)
    }

    /// The type of the column of that name, as rows have it; `None` if there is no such column.
    pub fn column_type(&self, name: &str) -> Option<DataType> {
        if let Some((_, field)) = self.metadata.schema().column_with_name(name) {
            return Some(match field.data_type() {
                DataType::Dictionary(_, values) => values.as_ref().clone(),
                other => other.clone(),
            });
        }
        let value = self.partitions.iter().find(|(column, _)| column == name);
        value.map(|(_, value)| match value {
            FolderValue::Number(_) => DataType::Int64,
            FolderValue::Null | FolderValue::Text(_) => DataType::Utf8,
        })
    }

    fn has_column_twice(&self, name: &str) -> bool {
        let fields = self.metadata.schema().fields();
        fields.iter().filter(|field| field.name() == name).nth(1).is_some()
    }

    fn column_names(&self) -> Vec<&str> {
        let own = self.metadata.schema().fields().iter().map(|field| field.name().as_str());
        own.chain(self.partitions.iter().map(|(column, _)| column.as_str())).collect()
    }

    /// Whether it takes long to come by the first bytes, so that they are worth asking for early.
    pub(super) fn is_far(&self) -> bool {
        matches!(self.place, Place::Object(..))
    }

    /// Opens the file to read the ranges `wanted`, with about `budget` bytes at hand;
    /// [`ErrorKind::SourceChanged`] if it is not what was pinned.
    pub(super) fn open(&self, wanted: &[Range<u64>], budget: u64) -> Result<OpenFile> {
        match &self.place {
            Place::Object(bucket, key, stamp) => {
                let (bucket, key, stamp) = (Arc::clone(bucket), key.clone(), stamp.clone());
                Ok(OpenFile::Object(ObjectFile::open(bucket, key, stamp, wanted, budget)))
            }
            Place::Disk(path, _) => {
                let file = match open(path) {
                    Err(error) if error.kind() == ErrorKind::SourceNotFound => {
                        return Err(changed(&self.name));
                    }
                    other => Arc::new(other?),
                };
                let opened = OpenFile::Disk(file);
                self.verify(&opened)?;
                Ok(opened)
            }
        }
    }

    /// [`ErrorKind::SourceChanged`] if what was opened was written to since it was pinned.
    /// Each answer of an object store is compared as it comes.
    pub(super) fn verify(&self, opened: &OpenFile) -> Result<()> {
        let (Place::Disk(path, stamp), OpenFile::Disk(file)) = (&self.place, opened) else {
            return Ok(());
        };
        let now = file.metadata().map_err(|cause| unreadable(path, cause))?;
        if Stamp::of(&now) == *stamp { Ok(()) } else { Err(changed(&self.name)) }
    }
}

/// How the object store of `source` is reached.
pub fn cloud_settings(source: &DataSource, config: &RepoConfig) -> CloudSettings {
    let endpoint = &source.s3_endpoint_override;
    CloudSettings {
        endpoint: (!endpoint.is_empty()).then(|| endpoint.clone()),
        region: config.object_stores.s3_region.clone(),
        profile: config.object_stores.s3_profile.clone(),
        is_anonymous: config.object_stores.is_anonymous,
    }
}

/// A file that is being read.
#[derive(Clone)]
pub(super) enum OpenFile {
    Disk(Arc<File>),
    Object(ObjectFile),
}

impl OpenFile {
    /// The error of an object store that made a read fail.
    pub fn take_failure(&self) -> Option<Error> {
        match self {
            OpenFile::Disk(_) => None,
            OpenFile::Object(file) => file.take_failure(),
        }
    }
}

impl Length for OpenFile {
    fn len(&self) -> u64 {
        match self {
            OpenFile::Disk(file) => Length::len(file.as_ref()),
            OpenFile::Object(file) => file.len(),
        }
    }
}

impl ChunkReader for OpenFile {
    type T = OpenRead;

    fn get_read(&self, start: u64) -> parquet::errors::Result<OpenRead> {
        match self {
            OpenFile::Disk(file) => file.get_read(start).map(OpenRead::Disk),
            OpenFile::Object(file) => file.get_read(start).map(OpenRead::Object),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        match self {
            OpenFile::Disk(file) => file.get_bytes(start, length),
            OpenFile::Object(file) => file.get_bytes(start, length),
        }
    }
}

/// Reads an [`OpenFile`] from somewhere on.
pub(super) enum OpenRead {
    Disk(BufReader<File>),
    Object(ObjectRead),
}

impl Read for OpenRead {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            OpenRead::Disk(file) => file.read(into),
            OpenRead::Object(file) => file.read(into),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    fs::File::open(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::SourceNotFound, format!("no file '{}'", path.display()))
        }
        _ => unreadable(path, cause),
    })
}

/// The error of a file that is not what it was.
#[cold]
pub(super) fn changed(name: &str) -> Error {
    Error::new(
        ErrorKind::SourceChanged,
        format!(
            "file '{name}' changed while it was read, so nothing was recorded; run again when \
             whoever writes it has finished"
        ),
    )
}

#[cold]
pub(super) fn not_parquet(name: &str, cause: ParquetError) -> Error {
    Error::new(ErrorKind::SourceInvalid, format!("'{name}' is not a Parquet file, or is cut short"))
        .with_source(cause)
}

#[cold]
fn unreadable(path: &Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("can't read '{}'", path.display())).with_source(cause)
}
