//! From the path of a `FileSource` to a sorted list of files: one file, a folder or a glob.
//! Hidden files and those that begin with `_` are left out, as pyarrow and dask do.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Stands in a folder's name for a null.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// A file and the columns that the names of its folders give.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub path: PathBuf,
    pub partitions: Vec<(String, FolderValue)>,
}

/// What a folder's name says of every row below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderValue {
    /// Nothing.
    Null,
    /// A number, where every folder of that column names one.
    Number(i64),
    /// Its text.
    Text(String),
}

/// The files at `path`, in natural order (`part-2` before `part-10`); at least one.
pub(super) fn find(path: &str, repo_path: Option<&Path>) -> Result<Vec<FoundFile>> {
    let full = resolve(path, repo_path)?;
    let mut found = if full.is_file() {
        vec![FoundFile { path: full.clone(), partitions: Vec::new() }]
    } else if full.is_dir() {
        in_folder(&full)?
    } else {
        matching(&full)?
    };
    if found.is_empty() {
        return Err(not_found(path, &full));
    }
    find_numbers(&mut found);
    Ok(found)
}

/// The local path that `path` stands for (`FileSource.get_uri_for_file_path`).
fn resolve(path: &str, repo_path: Option<&Path>) -> Result<PathBuf> {
    let local = match path.split_once("://") {
        Some(("file", rest)) => rest.strip_prefix("localhost").unwrap_or(rest),
        Some((scheme, _)) => return Err(remote(path, scheme)),
        None => path,
    };
    Ok(match repo_path {
        Some(repo) if Path::new(local).is_relative() => repo.join(local),
        _ => PathBuf::from(local),
    })
}

fn in_folder(folder: &Path) -> Result<Vec<FoundFile>> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    files.sort_by(|a, b| natural_order(a, b));
    let with_columns = |path: PathBuf| FoundFile { partitions: partitions(folder, &path), path };
    Ok(files.into_iter().map(with_columns).collect())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |cause| {
        Error::new(ErrorKind::Io, format!("can't list folder '{}'", folder.display()))
            .with_source(cause)
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_ignored(&path) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files)?;
        } else if has_parquet_extension(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn matching(pattern: &Path) -> Result<Vec<FoundFile>> {
    let text = pattern.to_string_lossy();
    let paths = glob::glob(&text).map_err(|cause| {
        Error::new(ErrorKind::InvalidArgument, format!("'{text}' is not a valid pattern"))
            .with_source(cause)
    })?;
    let mut matches = Vec::new();
    for path in paths {
        matches.push(path.map_err(|cause| {
            Error::new(ErrorKind::Io, format!("can't list '{text}'")).with_source(cause)
        })?);
    }
    matches.sort_by(|a, b| natural_order(a, b));
    // The part before the first wildcard is the base that partition columns are read below.
    let base: PathBuf = pattern.components().take_while(|part| !has_wildcard(part)).collect();
    let mut files = Vec::new();
    for path in matches.into_iter().filter(|path| !is_ignored(path)) {
        if path.is_dir() {
            files.extend(in_folder(&path)?);
        } else {
            files.push(FoundFile { partitions: partitions(&base, &path), path });
        }
    }
    Ok(files)
}

fn has_wildcard(part: &Component<'_>) -> bool {
    part.as_os_str().to_string_lossy().contains(['*', '?', '['])
}

fn is_ignored(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // `_region=eu` is a folder of a partitioned table, not a hidden one.
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

fn has_parquet_extension(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    ["parquet", "parq", "pq"].contains(&extension.as_ref())
}

fn partitions(base: &Path, file: &Path) -> Vec<(String, FolderValue)> {
    let below = file.strip_prefix(base).unwrap_or(file);
    let folders = below.parent().into_iter().flat_map(Path::components);
    folders
        .filter_map(|part| {
            let text = part.as_os_str().to_str()?;
            let (name, value) = text.split_once('=')?;
            let value = match value {
                NULL_FOLDER => FolderValue::Null,
                text => FolderValue::Text(percent_decoded(text)),
            };
            Some((percent_decoded(name), value))
        })
        .collect()
}

/// `text` with `%20` and its like decoded; as it is, where that would be no text.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = after.get(..2).filter(|_| *first == b'%').and_then(hex_byte);
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Columns of nothing but numbers become numbers, as pyarrow infers them from all folders:
/// `01` is 1, but stays `01` beside `0a`.
fn find_numbers(files: &mut [FoundFile]) {
    let number = |text: &str| text.parse::<i32>().ok().map(i64::from);
    let texts: HashSet<String> = files
        .iter()
        .flat_map(|file| &file.partitions)
        .filter(|(_, value)| matches!(value, FolderValue::Text(text) if number(text).is_none()))
        .map(|(name, _)| name.clone())
        .collect();
    let all = files.iter_mut().flat_map(|file| &mut file.partitions);
    for (_, value) in all.filter(|(name, _)| !texts.contains(name)) {
        if let FolderValue::Text(text) = value
            && let Some(number) = number(text)
        {
            *value = FolderValue::Number(number);
        }
    }
}

/// Orders runs of digits by their number, as dask orders files
/// (`dask.utils.natural_sort_key`).
fn natural_order(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (a.to_string_lossy(), b.to_string_lossy());
    let (mut left, mut right) = (a.as_ref(), b.as_ref());
    loop {
        let ((x, x_rest), (y, y_rest)) = (next_run(left), next_run(right));
        let order = match (x.parse::<u128>(), y.parse::<u128>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => x.cmp(y),
        };
        if order != Ordering::Equal {
            return order;
        }
        if x_rest.is_empty() || y_rest.is_empty() {
            return x_rest.len().cmp(&y_rest.len()).then_with(|| a.cmp(&b));
        }
        (left, right) = (x_rest, y_rest);
    }
}

/// The leading run of digits or of non-digits, and the rest.
fn next_run(text: &str) -> (&str, &str) {
    let is_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(text.len());
    text.split_at(end)
}

#[cold]
fn not_found(path: &str, full: &Path) -> Error {
    let what = if full.is_dir() {
        "the folder holds no .parquet, .parq or .pq file"
    } else {
        "there is no such file or folder, and no file matches it as a pattern"
    };
    Error::new(
        ErrorKind::SourceNotFound,
        format!("source path '{path}' was resolved to '{}': {what}", full.display()),
    )
}

#[cold]
fn remote(path: &str, scheme: &str) -> Error {
    Error::new(
        ErrorKind::NeedsFeast,
        format!(
            "source path '{path}' is on '{scheme}': only local files are read natively so far; \
             such a view is materialized through Feast"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &[FoundFile], base: &Path) -> Vec<String> {
        let relative = |file: &FoundFile| file.path.strip_prefix(base).unwrap().to_owned();
        found.iter().map(|file| relative(file).to_string_lossy().into_owned()).collect()
    }

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }

    #[test]
    fn folder_is_walked_in_natural_order_without_hidden_files() {
        let dir = tempfile::tempdir().unwrap();
        let names_in =
            ["part-10.parquet", "part-2.parquet", "_SUCCESS", ".x.parquet", "day=3/a.pq"];
        for name in names_in.iter().chain(&["_delta_log/0.parquet", "notes.txt"]) {
            touch(&dir.path().join("t").join(name));
        }

        let found = find("t", Some(dir.path())).unwrap();
        assert_eq!(
            names(&found, &dir.path().join("t")),
            ["day=3/a.pq", "part-2.parquet", "part-10.parquet"]
        );
        assert_eq!(found[0].partitions, [("day".to_owned(), FolderValue::Number(3))]);
    }

    #[test]
    fn folder_names_are_decoded_and_typed_by_all_of_them() {
        let dir = tempfile::tempdir().unwrap();
        for folders in
            ["b=01/a%20b=7", "b=0a/a%20b=__HIVE_DEFAULT_PARTITION__", "b=%C3%A9%/a%20b=-1"]
        {
            touch(&dir.path().join("t").join(folders).join("x.parquet"));
        }

        let found = find("t", Some(dir.path())).unwrap();

        let values = |column: usize| -> Vec<FolderValue> {
            found.iter().map(|file| file.partitions[column].1.clone()).collect()
        };
        let texts = ["0a", "01", "é%"].map(|text| FolderValue::Text(text.to_owned()));
        assert_eq!(values(0), texts);
        let numbers = [FolderValue::Null, FolderValue::Number(7), FolderValue::Number(-1)];
        assert_eq!(values(1), numbers);
        assert_eq!(found[0].partitions[1].0, "a b");
    }

    #[test]
    fn glob_and_uri_are_resolved() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a1.parquet", "a2.parquet", "b.parquet"] {
            touch(&dir.path().join(name));
        }

        let found = find("a*.parquet", Some(dir.path())).unwrap();
        assert_eq!(names(&found, dir.path()), ["a1.parquet", "a2.parquet"]);
        let uri = format!("file://{}/b.parquet", dir.path().display());
        assert_eq!(find(&uri, None).unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_there_is_told_with_its_resolution() {
        let error = find("data/x.parquet", Some(Path::new("/repo"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceNotFound);
        assert!(
            error.to_string().contains("'data/x.parquet' was resolved to '/repo/data/x.parquet'")
        );

        let error = find("s3://bucket/x", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NeedsFeast);
    }
}
