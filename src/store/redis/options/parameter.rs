//! One parameter, `name=value`, and what its value may be.

use std::time::Duration;

use serde_json::Value as Json;

use super::invalid;
use crate::config::Secret;
use crate::error::{Error, Result};

/// A parameter that was given. Messages show the value of numbers and switches only: of the
/// rest, any could be a secret.
pub(super) struct Parameter {
    pub(super) name: String,
    value: String,
}

impl Parameter {
    /// Of Feast's form, where values are JSON if they can be, else text
    /// (`feast/infra/online_stores/redis.py::_parse_connection_string`). `None`: it is null,
    /// which says as much as nothing.
    pub(super) fn of_json(name: &str, text: &str) -> Option<Self> {
        let value = match serde_json::from_str(text) {
            Ok(Json::Null) => return None,
            Ok(Json::String(inner)) => inner,
            // Numbers as they were written: a password of digits may begin with 0.
            _ => text.to_owned(),
        };
        Some(Parameter { name: name.to_owned(), value })
    }

    /// Of a URL, where values are text.
    pub(super) fn of_text(name: String, value: String) -> Self {
        Parameter { name, value }
    }

    pub(super) fn string(&self) -> String {
        self.value.clone()
    }

    pub(super) fn secret(&self) -> Secret {
        Secret::new(self.value.clone())
    }

    pub(super) fn number<T: TryFrom<u64>>(&self) -> Result<T> {
        let number: Option<u64> = self.value.trim().parse().ok();
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.wrong("a whole number that is not negative"))
    }

    pub(super) fn boolean(&self) -> Result<bool> {
        match self.value.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "y" => Ok(true),
            "false" | "f" | "0" | "no" | "n" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    pub(super) fn seconds(&self) -> Result<Duration> {
        let seconds: Option<f64> = self.value.trim().parse().ok();
        seconds
            .filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0)
            .map(Duration::from_secs_f64)
            .ok_or_else(|| self.wrong("a number of seconds above 0, at most 86400"))
    }

    /// The parameters that a value which is a JSON object consists of.
    pub(super) fn object(&self) -> Result<Vec<Parameter>> {
        let Ok(Json::Object(entries)) = serde_json::from_str(&self.value) else {
            let message = format!("connection_string has {}, which is no JSON object", self.name);
            return Err(invalid(message));
        };
        let parameter =
            |(name, value): (String, Json)| Parameter::of_json(&name, &value.to_string());
        Ok(entries.into_iter().filter_map(parameter).collect())
    }

    pub(super) fn wrong(&self, wanted: &str) -> Error {
        invalid(format!(
            "connection_string has {}='{}', where {wanted} is wanted",
            self.name, self.value
        ))
    }
}
