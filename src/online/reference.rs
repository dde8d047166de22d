//! Feature references as text: `view:feature`, `view@v2:feature`, `view@latest:feature`.
//! Matches `feast/utils.py::_parse_feature_ref`.

use crate::error::{Error, ErrorKind, Result};

/// One feature of one view, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureRef {
    /// The name by which the request knows the view: its own, or a service's alias.
    pub view: String,
    /// A version of the view; `None` is the current one.
    pub version: Option<u32>,
    /// The feature's name.
    pub feature: String,
}

impl FeatureRef {
    /// Parses a reference. A suffix after `@` that is no version belongs to the name.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((view, feature)) = text.split_once(':') else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "feature reference '{text}' names no feature; write '<feature view>:<feature>'"
                ),
            ));
        };
        let (name, version) = match view.split_once('@') {
            None => (view, None),
            Some((name, "")) => (name, None),
            Some((name, suffix)) if suffix.eq_ignore_ascii_case("latest") => (name, None),
            Some((name, suffix)) => match parse_version(suffix) {
                Some(version) => (name, Some(version)),
                None => (view, None),
            },
        };
        Ok(FeatureRef { view: name.to_owned(), version, feature: feature.to_owned() })
    }

    /// The view's name with the version, if one is asked for: `view@v2`.
    pub fn view_name(&self) -> String {
        Self::versioned(&self.view, self.version)
    }

    pub(super) fn versioned(view: &str, version: Option<u32>) -> String {
        match version {
            None => view.to_owned(),
            Some(version) => format!("{view}@v{version}"),
        }
    }

    /// The name of the response column: the feature's, or `view__feature`.
    pub fn column_name(&self, full_feature_names: bool) -> String {
        match full_feature_names {
            false => self.feature.clone(),
            true => format!("{}__{}", self.view_name(), self.feature),
        }
    }
}

fn parse_version(suffix: &str) -> Option<u32> {
    let digits = suffix.strip_prefix(['v', 'V'])?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<u32>, String) {
        let reference = FeatureRef::parse(text).unwrap();
        (reference.view, reference.version, reference.feature)
    }

    #[test]
    fn versions_are_recognised() {
        assert_eq!(parsed("v:f"), ("v".into(), None, "f".into()));
        assert_eq!(parsed("v@v2:f"), ("v".into(), Some(2), "f".into()));
        assert_eq!(parsed("v@LATEST:f"), ("v".into(), None, "f".into()));
        assert_eq!(parsed("v@home:f"), ("v@home".into(), None, "f".into()));
        assert_eq!(parsed("v@v:f"), ("v@v".into(), None, "f".into()));
    }

    #[test]
    fn a_reference_without_feature_is_refused() {
        assert_eq!(FeatureRef::parse("view").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
