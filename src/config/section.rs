//! One mapping of the YAML with checked types. An error names the key and what it may be,
//! never the value: it could be a secret.
//!
//! Numbers and booleans are accepted as text too, for a quoted `"${TTL}"` is text.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

/// A mapping and the name that errors give it.
pub(super) struct Section<'a> {
    name: &'a str,
    entries: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    /// The mapping `entries` called `name`; an empty name is the top level.
    pub(super) fn new(name: &'a str, entries: &'a Map<String, Value>) -> Self {
        Section { name, entries }
    }

    /// The value of `key`; `None` if it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    /// The keys given.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().map(String::as_str)
    }

    /// An error for a key that is not in `known`.
    pub(super) fn require_known(&self, known: &[&str]) -> Result<()> {
        match self.keys().find(|key| !known.contains(key)) {
            None => Ok(()),
            Some(key) => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "{}: unknown setting; supported here: {}",
                    self.path_of(key),
                    known.join(", ")
                ),
            )),
        }
    }

    /// Text; `None` if absent.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "text; put it in quotes")),
        }
    }

    /// A boolean, or `default` if absent.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A whole number of at least `least`; `None` if absent.
    pub(super) fn number(&self, key: &str, least: u64) -> Result<Option<u64>> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        match number {
            Some(number) if number >= least => Ok(Some(number)),
            _ => Err(self.wrong(key, &format!("a whole number, {least} or more"))),
        }
    }

    /// A number of seconds above zero, fractions allowed; `None` if absent.
    pub(super) fn seconds(&self, key: &str) -> Result<Option<Duration>> {
        let seconds = match self.get(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        match seconds.map(Duration::try_from_secs_f64) {
            Some(Ok(duration)) if !duration.is_zero() => Ok(Some(duration)),
            _ => Err(self.wrong(key, "a number of seconds above zero")),
        }
    }

    /// One of `choices` (the first is the default), as its index.
    pub(super) fn choice(&self, key: &str, choices: &[&str]) -> Result<usize> {
        let Some(value) = self.get(key) else {
            return Ok(0);
        };
        choices
            .iter()
            .position(|choice| value.as_str() == Some(choice))
            .ok_or_else(|| self.wrong(key, &format!("one of {}", choices.join(", "))))
    }

    /// The error for a value that is not `expected`.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> Error {
        Error::new(ErrorKind::InvalidConfig, format!("{} must be {expected}", self.path_of(key)))
    }

    /// `section.key`.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}
