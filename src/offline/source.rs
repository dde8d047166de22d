//! Which files a Parquet `FileSource` is, pinned: size, time and footer as first seen.
//!
//! Files are opened anew for each pass (a folder may hold more of them than a process may
//! hold open), and what is opened is compared with what was pinned.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use super::listing::{self, FolderValue};
use crate::error::{Error, ErrorKind, Result};

/// The files of one source, in the order in which their rows count.
#[derive(Clone, Debug)]
pub struct SourceFiles {
    files: Vec<PinnedFile>,
    rows: u64,
}

/// One file as it was when the source was first looked at.
#[derive(Clone, Debug)]
pub struct PinnedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its footer and schema.
    pub metadata: ArrowReaderMetadata,
    /// Columns that the folder names give: `day=3` is `("day", Number(3))`.
    pub partitions: Vec<(String, FolderValue)>,
    /// Rows of the source before this file.
    pub first_row: u64,
    stamp: Stamp,
}

/// What changes when a file does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
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
    /// Finds and pins the files at `path`: a file, a folder or a glob; absolute, relative to
    /// `repo_path`, or a `file://` URI.
    pub fn pin(path: &str, repo_path: Option<&Path>) -> Result<Self> {
        let mut files = Vec::new();
        let mut rows = 0;
        for found in listing::find(path, repo_path)? {
            let file = PinnedFile::pin(found, rows)?;
            rows += file.rows();
            files.push(file);
        }
        Ok(SourceFiles { files, rows })
    }

    /// The files in order.
    pub fn files(&self) -> &[PinnedFile] {
        &self.files
    }

    /// Rows of all files together.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The row of that number for a message: its place in its file, and the file.
    pub fn locate(&self, row: u64) -> String {
        match self.files.iter().rev().find(|file| file.first_row <= row) {
            Some(file) => format!("row {} of file '{}'", row - file.first_row, file.path.display()),
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
                    file.path.display()
                ),
            ));
        }
        match self.files.iter().find(|file| !file.has_column(name)) {
            Some(file) => Err(Error::new(
                ErrorKind::SourceInvalid,
                format!(
                    "file '{}' has no column '{name}', which is {role}; its columns are {}",
                    file.path.display(),
                    file.column_names().join(", ")
                ),
            )),
            None => Ok(()),
        }
    }
}

impl PinnedFile {
    fn pin(found: listing::FoundFile, first_row: u64) -> Result<Self> {
        let path = found.path;
        let invalid = |cause: parquet::errors::ParquetError| {
            Error::new(
                ErrorKind::SourceInvalid,
                format!("'{}' is not a Parquet file, or is cut short", path.display()),
            )
            .with_source(cause)
        };
        let file = open(&path)?;
        let stamp = Stamp::of(&file.metadata().map_err(|cause| unreadable(&path, cause))?);
        let metadata =
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(invalid)?;
        Ok(PinnedFile { metadata, partitions: found.partitions, first_row, stamp, path })
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

    fn has_column_twice(&self, name: &str) -> bool {
        let fields = self.metadata.schema().fields();
        fields.iter().filter(|field| field.name() == name).nth(1).is_some()
    }

    fn column_names(&self) -> Vec<&str> {
        let own = self.metadata.schema().fields().iter().map(|field| field.name().as_str());
        own.chain(self.partitions.iter().map(|(column, _)| column.as_str())).collect()
    }

    /// Opens the file for a pass; [`ErrorKind::SourceChanged`] if it is not what was pinned.
    pub fn open(&self) -> Result<File> {
        let file = match open(&self.path) {
            Err(error) if error.kind() == ErrorKind::SourceNotFound => return Err(self.changed()),
            other => other?,
        };
        self.verify(&file)?;
        Ok(file)
    }

    /// [`ErrorKind::SourceChanged`] if the open `file` was written to since it was pinned.
    pub fn verify(&self, file: &File) -> Result<()> {
        let now = file.metadata().map_err(|cause| unreadable(&self.path, cause))?;
        if Stamp::of(&now) == self.stamp { Ok(()) } else { Err(self.changed()) }
    }

    #[cold]
    fn changed(&self) -> Error {
        Error::new(
            ErrorKind::SourceChanged,
            format!(
                "file '{}' changed while it was read, so nothing was recorded; run again when \
                 whoever writes it has finished",
                self.path.display()
            ),
        )
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

#[cold]
fn unreadable(path: &Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("can't read '{}'", path.display())).with_source(cause)
}
