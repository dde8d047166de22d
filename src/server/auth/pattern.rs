//! Regular expressions of Python's `re`, as permissions have them, on a whole name. Where the
//! two languages differ, a name may be matched less, never more.

use regex::Regex;

/// Names that a permission is about.
#[derive(Debug)]
pub struct Pattern(Option<Regex>);

impl Pattern {
    /// Compiles `text`. One that can't be had here (a look-around, a back-reference), or that
    /// would mean something else, matches nothing, which is logged.
    pub fn new(text: &str, permission: &str) -> Self {
        let compiled = if is_ambiguous(text) { None } else { compile(text) };
        if compiled.is_none() {
            log::warn!(
                "permission '{permission}': the name pattern '{text}' is not supported, it matches \
                 nothing; write it without look-around, back-references and nested sets"
            );
        }
        Pattern(compiled)
    }

    /// Whether it matches the whole of `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(name))
    }
}

fn compile(text: &str) -> Option<Regex> {
    // By itself first, so that a stray parenthesis does not close the group around it.
    Regex::new(text).ok()?;
    Regex::new(&format!(r"\A(?:{text})\z")).ok()
}

/// Whether a set in brackets holds what is special only here: a set in it, or an operator.
fn is_ambiguous(text: &str) -> bool {
    let mut rest = text.chars().peekable();
    let mut in_set = false;
    // `]` is itself where it is the first in a set.
    let mut is_first = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                // `\<` and `\>` are bounds of words here.
                if matches!(rest.next(), Some('<' | '>')) {
                    return true;
                }
            }
            '[' if in_set => return true,
            '[' => {
                in_set = true;
                is_first = true;
                rest.next_if_eq(&'^');
                continue;
            }
            ']' if in_set && !is_first => in_set = false,
            '&' | '-' | '~' if in_set && rest.peek() == Some(&c) => return true,
            _ => {}
        }
        is_first = false;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern, "p").matches(name)
    }

    #[test]
    fn the_whole_name_is_matched() {
        assert!(matches("stats", "stats"));
        assert!(matches("a|b", "b"));
        assert!(matches(r"by_.*", "by_user"));
        assert!(matches(r"[]a-z_]+\d{2}", "a_]z42"));
        assert!(matches("(?i)Stats", "STATS"));
        assert!(!matches("stats", "stats2"));
        assert!(!matches("a|b", "ab"));
        assert!(!matches("Stats", "stats"));
        assert!(!matches("stats$", "stats\n"));
    }

    #[test]
    fn what_means_something_else_here_matches_nothing() {
        for pattern in [
            "(?=a).*",
            r"(a)\1",
            "a)|(.*",
            "[[:alpha:]]",
            "[a&&b]",
            "[a--b]",
            "[a~~b]",
            r"\<a",
            "(",
        ] {
            for name in ["a", "b", "aa", ":]", "&b]", "", "anything"] {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }
}
