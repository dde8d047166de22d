//! A profile of AWS's own files, `~/.aws/credentials` and `~/.aws/config`: keys and a region.
//! Must not print what it reads.

use std::collections::HashMap;
use std::path::PathBuf;

/// Ways to credentials that an AWS SDK has to go.
const SDK_ONLY: &[&str] = &["role_arn", "credential_process", "sso_session", "sso_start_url"];

/// The settings of one profile.
pub(super) struct Profile {
    pub name: String,
    settings: HashMap<String, String>,
}

impl Profile {
    /// The profile `chosen`, else the one that `AWS_PROFILE` names, else `default`. A default that
    /// is nowhere has no settings; any other that is nowhere is an error.
    pub fn load(
        chosen: Option<&str>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let file = |named_by: &str, default: &str| {
            let path = variable(named_by).map(PathBuf::from);
            let path = path.or_else(|| Some(PathBuf::from(variable("HOME")?).join(default)));
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
        let config = file("AWS_CONFIG_FILE", ".aws/config");
        let asked = chosen.map(str::to_owned);
        let asked = asked.or_else(|| variable("AWS_PROFILE"));
        let asked = asked.or_else(|| variable("AWS_DEFAULT_PROFILE"));
        let name = asked.clone().unwrap_or_else(|| "default".to_owned());

        let mut settings = section(&config, &[&format!("profile {name}"), &name]);
        settings.extend(section(&credentials, &[&name]));
        if settings.is_empty() && asked.is_some() {
            return Err(format!(
                "the AWS profile is '{name}', and no file of AWS has that profile"
            ));
        }
        Ok(Profile { name, settings })
    }

    /// A setting; `None` if the profile does not have it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// The setting by which only an AWS SDK comes to credentials; `None`: there is none, or
    /// there are keys besides.
    pub fn needs_sdk(&self) -> Option<&'static str> {
        let has_keys = self.get("aws_access_key_id").is_some();
        SDK_ONLY.iter().find(|name| !has_keys && self.get(name).is_some()).copied()
    }
}

/// The settings of the sections of `text` that bear one of `names`.
fn section(text: &str, names: &[&str]) -> HashMap<String, String> {
    let mut settings = HashMap::new();
    let mut is_in = false;
    for line in text.lines() {
        let stripped = line.trim();
        if let Some(name) = stripped.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_in = names.contains(&name.trim());
        } else if is_in
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = stripped.split_once('=')
        {
            settings.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: Option<&str>) -> Result<Profile, String> {
        let folder = tempfile::tempdir().unwrap();
        let (credentials, config) = (folder.path().join("credentials"), folder.path().join("c"));
        std::fs::write(
            &credentials,
            "[default]\naws_access_key_id = one\naws_secret_access_key=a=b\n\
             # no = yes\n[other]\naws_access_key_id=two\n",
        )
        .unwrap();
        std::fs::write(
            &config,
            "[default]\nregion = eu-west-1\ns3 =\n  region = nested\n\
             [profile other]\nregion=eu-west-2\n[profile sso]\nsso_session = x\n",
        )
        .unwrap();
        Profile::load(None, &|variable| match variable {
            "AWS_SHARED_CREDENTIALS_FILE" => Some(credentials.display().to_string()),
            "AWS_CONFIG_FILE" => Some(config.display().to_string()),
            "AWS_PROFILE" => name.map(str::to_owned),
            _ => None,
        })
    }

    #[test]
    fn keys_and_region_come_from_two_files() {
        let default = profile(None).unwrap();
        assert_eq!(default.get("aws_access_key_id"), Some("one"));
        assert_eq!(default.get("aws_secret_access_key"), Some("a=b"));
        assert_eq!(default.get("region"), Some("eu-west-1"));
        assert_eq!(default.get("# no"), None);
        let other = profile(Some("other")).unwrap();
        assert_eq!(other.get("aws_access_key_id"), Some("two"));
        assert_eq!(other.get("region"), Some("eu-west-2"));
        assert_eq!((default.needs_sdk(), other.needs_sdk()), (None, None));
    }

    #[test]
    fn what_only_an_sdk_can_do_is_said_and_so_is_a_missing_profile() {
        assert_eq!(profile(Some("sso")).unwrap().needs_sdk(), Some("sso_session"));
        let error = profile(Some("nobody")).err().unwrap();
        assert!(error.contains("'nobody'"), "{error}");
        assert!(Profile::load(None, &|_| None).unwrap().get("region").is_none());
    }
}
