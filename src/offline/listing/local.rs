//! Files on disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::{
    FoundFile, base_of, find_numbers, has_parquet_extension, is_ignored, natural_order, partitions,
};
use crate::error::{Error, ErrorKind, Result};

/// The files at `path`, in natural order (`part-2` before `part-10`); at least one.
pub fn find(path: &str, repo_path: Option<&Path>) -> Result<Vec<FoundFile>> {
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
pub fn resolve(path: &str, repo_path: Option<&Path>) -> Result<PathBuf> {
    let local = match path.split_once("://") {
        Some(("file", rest)) => rest.strip_prefix("localhost").unwrap_or(rest),
        // Object stores were told apart before.
        Some((scheme, _)) => return Err(unknown_scheme(path, scheme)),
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
    let base = base_of(pattern);
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
fn unknown_scheme(path: &str, scheme: &str) -> Error {
    Error::new(
        ErrorKind::NeedsFeast,
        format!(
            "source path '{path}' is on '{scheme}': read natively are local files, s3://, gs://, \
             http:// and https://; such a view is materialized through Feast"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::FolderValue;
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

        let error = find("hdfs://host/x", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NeedsFeast);
    }
}
