//! From the path of a `FileSource` to a sorted list of files: one file, a folder or a glob; on
//! disk (`local`) or in an object store (`object`), by the same rules.
//! Hidden files and those that begin with `_` are left out, as pyarrow and dask do.

mod local;
mod object;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

pub(super) use local::{find, resolve};
pub(super) use object::{prefix_of, select};

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

/// The part of a pattern before the first wildcard: partition columns are read below it.
fn base_of(pattern: &Path) -> PathBuf {
    pattern.components().take_while(|part| !has_wildcard(part)).collect()
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
