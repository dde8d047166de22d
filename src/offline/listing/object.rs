//! Objects of a bucket, whose keys are paths by convention only: there are no folders to walk, so
//! what a walk would find is chosen among the keys.

use std::collections::BTreeMap;
use std::path::Path;

use glob::{MatchOptions, Pattern};

use super::{
    FoundFile, base_of, find_numbers, has_parquet_extension, has_wildcard, is_ignored,
    natural_order, partitions,
};
use crate::error::{Error, ErrorKind, Result};

/// As paths are matched on disk, where `*` stays within one folder.
const AS_ON_DISK: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The folder below which everything that `path` may stand for lies; `None`: `path` has no
/// wildcard, so it is a file or a folder itself.
pub fn prefix_of(path: &str) -> Option<String> {
    let path = Path::new(path);
    let is_pattern = path.components().any(|part| has_wildcard(&part));
    is_pattern.then(|| base_of(path).to_string_lossy().into_owned())
}

/// Of `keys`, all keys below `path` or below its [`prefix_of`], those that `path` stands for as
/// a folder or a pattern, in natural order.
pub fn select(path: &str, keys: &[String]) -> Result<Vec<FoundFile>> {
    let folder = Path::new(path.trim_end_matches('/'));
    let mut found = match prefix_of(path) {
        None => in_folder(folder, keys.iter().map(Path::new).collect()),
        Some(_) => matching(folder, keys)?,
    };
    find_numbers(&mut found);
    Ok(found)
}

fn in_folder(folder: &Path, keys: Vec<&Path>) -> Vec<FoundFile> {
    let is_seen = |key: &Path| {
        let below = key.strip_prefix(folder).ok();
        below
            .is_some_and(|below| has_parquet_extension(below) && !below.ancestors().any(is_ignored))
    };
    let mut files: Vec<&Path> = keys.into_iter().filter(|key| is_seen(key)).collect();
    files.sort_by(|a, b| natural_order(a, b));
    let with_columns =
        |key: &Path| FoundFile { path: key.to_owned(), partitions: partitions(folder, key) };
    files.into_iter().map(with_columns).collect()
}

fn matching(pattern: &Path, keys: &[String]) -> Result<Vec<FoundFile>> {
    let text = pattern.to_string_lossy();
    let compiled = Pattern::new(&text).map_err(|cause| {
        Error::new(ErrorKind::InvalidArgument, format!("'{text}' is not a valid pattern"))
            .with_source(cause)
    })?;
    let base = base_of(pattern);
    // Each path that matches, with the keys at and below it: a folder may match, too.
    let mut matches: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for key in keys.iter().map(Path::new) {
        let is_match =
            |path: &&Path| compiled.matches_path_with(path, AS_ON_DISK) && !is_ignored(path);
        for path in key.ancestors().filter(is_match) {
            matches.entry(path).or_default().push(key);
        }
    }
    let mut matches: Vec<(&Path, Vec<&Path>)> = matches.into_iter().collect();
    matches.sort_by(|(a, _), (b, _)| natural_order(a, b));
    let files = matches.into_iter().flat_map(|(path, below)| match below[..] {
        [key] if key == path => {
            vec![FoundFile { path: key.to_owned(), partitions: partitions(&base, key) }]
        }
        _ => in_folder(path, below),
    });
    Ok(files.collect())
}

#[cfg(test)]
mod tests {
    use super::super::FolderValue;
    use super::super::local;
    use super::*;

    const KEYS: [&str; 9] = [
        "t/day=3/a.pq",
        "t/day=12/part-10.parquet",
        "t/day=12/part-2.parquet",
        "t/_delta_log/0.parquet",
        "t/_SUCCESS",
        "t/.hidden/x.parquet",
        "t/_day=5/y.parquet",
        "t/notes.txt",
        "tt/z.parquet",
    ];

    type Found = Vec<(String, Vec<(String, FolderValue)>)>;

    /// What `path` stands for among the keys, and on disk.
    fn both(path: &str) -> [Found; 2] {
        let dir = tempfile::tempdir().unwrap();
        for key in KEYS {
            let file = dir.path().join(key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, b"").unwrap();
        }
        let shown = |found: Vec<FoundFile>, base: &Path| {
            let name = |file: &FoundFile| file.path.strip_prefix(base).unwrap().to_owned();
            let pair = |file: &FoundFile| {
                (name(file).to_string_lossy().into_owned(), file.partitions.clone())
            };
            found.iter().map(pair).collect()
        };
        let keys = KEYS.map(str::to_owned);
        let objects = select(path, &keys).unwrap();
        let files = local::find(path, Some(dir.path())).unwrap();
        [shown(objects, Path::new("")), shown(files, dir.path())]
    }

    #[test]
    fn objects_are_chosen_as_files_on_disk_are() {
        for path in ["t", "t/", "t/*/*.parquet", "t/day=*", "t/**/*.pq", "t*", "t/day=1?/*"] {
            let [objects, files] = both(path);
            assert!(!objects.is_empty(), "{path}");
            assert_eq!(objects, files, "{path}");
        }
        let [objects, _] = both("t");
        let names: Vec<&str> = objects.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "t/_day=5/y.parquet",
                "t/day=3/a.pq",
                "t/day=12/part-2.parquet",
                "t/day=12/part-10.parquet",
            ]
        );
        assert_eq!(objects[1].1, [("day".to_owned(), FolderValue::Number(3))]);
    }

    #[test]
    fn what_has_to_be_listed_is_what_stands_before_the_first_wildcard() {
        assert_eq!(prefix_of("a/b/c*/d.parquet").as_deref(), Some("a/b"));
        assert_eq!(prefix_of("*.parquet").as_deref(), Some(""));
        assert_eq!(prefix_of("a/b.parquet"), None);
        assert!(select("a/[", &["a/x".to_owned()]).is_err());
    }
}
