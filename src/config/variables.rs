//! Environment variables in the text of `feature_store.yaml`: `$VAR`, `${VAR}` as Feast
//! expands them (`os.path.expandvars`), and `${VAR:"default"}`, which Feast's documents
//! promise.
//!
//! A variable without value and default leaves a marker in the text, which [`find_unset`]
//! looks for once the YAML is parsed: a name in a comment is no mistake.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// Private-use characters: valid in YAML, and nobody writes them.
const MARK_START: char = '\u{E0F0}';
const MARK_END: char = '\u{E0F1}';

/// A variable that has no value.
pub(super) struct Unset {
    name: String,
    // Written `$name` right after a letter, digit or `$`: more likely part of a password
    // than a variable, so its name is not printed.
    is_glued: bool,
}

/// `text` with its variables replaced by what `lookup` gives, and the list of those that
/// have no value.
pub(super) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> (String, Vec<Unset>) {
    let mut expanded = String::with_capacity(text.len());
    let mut unset = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let Some((reference, len)) = parse_reference(after) else {
            expanded.push('$');
            rest = after;
            continue;
        };
        match lookup(reference.name).or(reference.default.map(str::to_owned)) {
            Some(value) => expanded.push_str(&value),
            None => {
                let is_glued = !reference.is_braced
                    && expanded.ends_with(|c: char| c.is_alphanumeric() || c == '$');
                expanded.push_str(&format!("{MARK_START}{}{MARK_END}", unset.len()));
                unset.push(Unset { name: reference.name.to_owned(), is_glued });
            }
        }
        rest = &after[len..];
    }
    expanded.push_str(rest);
    (expanded, unset)
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
    is_braced: bool,
}

/// The reference at the start of `text`, which follows a `$`, and its length. `None`: the
/// dollar sign stands for itself.
fn parse_reference(text: &str) -> Option<(Reference<'_>, usize)> {
    let Some(body) = text.strip_prefix('{') else {
        let len = word_len(text);
        let reference = Reference { name: &text[..len], default: None, is_braced: false };
        return (len > 0).then_some((reference, len));
    };
    let name_len = word_len(body);
    let name = &body[..name_len];
    let after = &body[name_len..];
    if name.is_empty() {
        return None;
    }
    if after.starts_with('}') {
        let reference = Reference { name, default: None, is_braced: true };
        return Some((reference, 1 + name_len + 1));
    }
    let value = after.strip_prefix(':')?;
    let (default, value_len) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let len = value[1..].find(quote)?;
            (&value[1..=len], len + 2)
        }
        _ => {
            let len = value.find(['}', '\n'])?;
            (&value[..len], len)
        }
    };
    value[value_len..].starts_with('}').then(|| {
        let reference = Reference { name, default: Some(default), is_braced: true };
        (reference, 1 + name_len + 1 + value_len + 1)
    })
}

/// How many bytes of `text` form the name of a variable (Python's ASCII `\w+`).
fn word_len(text: &str) -> usize {
    text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
}

/// An error if a key or a value that was read holds a variable without value.
pub(super) fn find_unset(value: &Value, unset: &[Unset]) -> Result<()> {
    if unset.is_empty() { Ok(()) } else { walk(value, "", unset) }
}

fn walk(value: &Value, path: &str, unset: &[Unset]) -> Result<()> {
    match value {
        Value::String(text) => check(text, path, unset),
        Value::Array(items) => items.iter().try_for_each(|item| walk(item, path, unset)),
        Value::Object(entries) => entries.iter().try_for_each(|(key, item)| {
            check(key, path, unset)?;
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(item, &path, unset)
        }),
        _ => Ok(()),
    }
}

fn check(text: &str, path: &str, unset: &[Unset]) -> Result<()> {
    let number = text
        .split_once(MARK_START)
        .and_then(|(_, rest)| rest.split_once(MARK_END))
        .and_then(|(number, _)| number.parse::<usize>().ok());
    let Some(variable) = number.and_then(|number| unset.get(number)) else {
        return Ok(());
    };
    let place = if path.is_empty() { "the top level" } else { path };
    let message = if variable.is_glued {
        format!(
            "{place} has a '$' that is read as the start of an environment variable, which is \
             not set; write a literal dollar sign as ${{DOLLAR:\"$\"}}"
        )
    } else {
        let name = &variable.name;
        format!(
            "{place} uses the environment variable '{name}', which is not set; set it, or give \
             a default: ${{{name}:\"value\"}}"
        )
    };
    Err(Error::new(ErrorKind::InvalidConfig, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOST").then(|| "redis".to_owned())
    }

    fn expanded(text: &str) -> String {
        expand(text, &lookup).0
    }

    #[test]
    fn every_form_is_expanded() {
        assert_eq!(expanded("a: $HOST:6379"), "a: redis:6379");
        assert_eq!(expanded("a: ${HOST}x"), "a: redisx");
        assert_eq!(expanded("a: ${HOST:\"other\"}"), "a: redis");
        assert_eq!(expanded("a: ${PORT:\"63}79\"}!"), "a: 63}79!");
        assert_eq!(expanded("a: ${PORT:'6379'}"), "a: 6379");
        assert_eq!(expanded("a: ${PORT:6379}"), "a: 6379");
        assert_eq!(expanded("a: ${PORT:\"\"}"), "a: ");
    }

    #[test]
    fn a_dollar_sign_that_names_nothing_stays() {
        for text in ["a: 5$", "a: $ x", "a: ${", "a: ${}", "a: ${HOST", "a: ${HOST:\"x}", "$-"] {
            assert_eq!(expanded(text), text);
        }
    }

    #[test]
    fn an_unset_variable_is_named_where_it_is_used() {
        let (_, unset) = expand("# $COMMENT\nx: ${MISSING}", &lookup);
        let value = serde_json::json!({ "store": { "x": format!("{MARK_START}1{MARK_END}") } });

        let error = find_unset(&value, &unset).unwrap_err().to_string();
        assert!(error.contains("store.x") && error.contains("'MISSING'"), "{error}");
        assert!(find_unset(&serde_json::json!({ "x": 1 }), &unset).is_ok());
    }

    #[test]
    fn what_may_be_a_password_is_not_printed() {
        let (text, unset) = expand("password=pa$word", &lookup);
        let error = find_unset(&Value::String(text), &unset).unwrap_err().to_string();

        assert!(!error.contains("word"), "{error}");
        assert!(error.contains("DOLLAR"), "{error}");
    }
}
