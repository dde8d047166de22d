//! Where `feature_store.yaml` is, by Feast's rules
//! (`feast/feature_store.py::FeatureStore.__init__`, `feast/utils.py::get_default_yaml_file_path`).

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Names a YAML file outside the repository, as it does for Feast.
const YAML_PATH_VARIABLE: &str = "FEAST_FS_YAML_FILE_PATH";

/// The folder of the repository and the YAML file to read, both absolute.
///
/// `repo_path`: `None` is the working directory. `fs_yaml_file`: `None` is the file that the
/// environment variable `FEAST_FS_YAML_FILE_PATH` names, else `feature_store.yaml` in the
/// repository. Whether the file is there is for [`crate::config::RepoConfig::load`] to say.
pub fn locate(repo_path: Option<&Path>, fs_yaml_file: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
    let repo_path = absolute(repo_path.filter(|path| !path.as_os_str().is_empty()))?;
    let yaml_file = match (fs_yaml_file, std::env::var_os(YAML_PATH_VARIABLE)) {
        (Some(file), _) => absolute(Some(file))?,
        (None, Some(file)) => absolute(Some(Path::new(&file)))?,
        (None, None) => repo_path.join("feature_store.yaml"),
    };
    Ok((repo_path, yaml_file))
}

/// `path` against the repository, if there is one and `path` is relative.
pub(super) fn resolve(repo_path: Option<&Path>, path: &str) -> PathBuf {
    match repo_path {
        Some(repo_path) => repo_path.join(path),
        None => PathBuf::from(path),
    }
}

/// `path` made absolute against the working directory, which is what `None` stands for.
fn absolute(path: Option<&Path>) -> Result<PathBuf> {
    match path {
        Some(path) => std::path::absolute(path),
        None => std::env::current_dir(),
    }
    .map_err(|error| {
        Error::new(
            ErrorKind::InvalidConfig,
            "the working directory can't be determined; give repo_path as an absolute path",
        )
        .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_file_comes_first_and_the_repo_is_the_default() {
        let (repo, yaml) = locate(Some(Path::new("/repo")), None).unwrap();
        assert_eq!(
            (repo.as_path(), yaml.as_path()),
            (Path::new("/repo"), Path::new("/repo/feature_store.yaml"))
        );

        let (_, yaml) = locate(Some(Path::new("/repo")), Some(Path::new("/etc/f.yaml"))).unwrap();
        assert_eq!(yaml, Path::new("/etc/f.yaml"));

        let (repo, _) = locate(Some(Path::new("")), None).unwrap();
        assert_eq!(repo, std::env::current_dir().unwrap());
    }
}
