//! JSON text as Python's `json.loads` reads it, pulled token by token with no tree: `NaN` and the
//! infinities are numbers, integers have any size, errors are told in Python's words. Stricter
//! in one thing: half of a surrogate pair is no character. Must not know what the text means.

use std::borrow::Cow;
use std::result::Result;

/// What nests deeper is refused.
const MAX_DEPTH: usize = 128;
/// Python refuses integers of more digits.
const MAX_DIGITS: usize = 4300;

/// Why a text can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no JSON: which character, counted from 0, and what is wrong there.
    Malformed {
        /// The character.
        at: usize,
        /// Python's words.
        what: &'static str,
    },
    /// It is more than can be read: nested too deep, or with a number of too many digits.
    TooMuch,
    /// It is JSON, but not what the reader's user asked for.
    Unexpected,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number<'a> {
    /// An integer.
    Integer(i64),
    /// An integer that needs more than 64 bits: its digits.
    Big(&'a str),
    /// Anything with a point or an exponent, NaN and the infinities.
    Float(f64),
}

/// Any scalar.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number<'a>),
    /// A string.
    Text(Cow<'a, str>),
}

/// What reads a text.
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Of a text, a byte order mark at its beginning apart.
    pub fn new(text: &'a str) -> Self {
        Reader { text: text.strip_prefix('\u{feff}').unwrap_or(text), at: 0, depth: 0 }
    }

    /// The first byte of the next token; `None` at the end.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// `Ok` where nothing but blanks is left.
    pub fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed("Extra data")),
        }
    }

    /// An object: `member` reads the value of each key.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if !self.open(b'{', b'}')? {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.malformed("Expecting property name enclosed in double quotes"));
            }
            let key = self.string()?;
            if !self.takes(b':') {
                return Err(self.malformed("Expecting ':' delimiter"));
            }
            member(self, key)?;
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// An array: `item` reads each element.
    pub fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if !self.open(b'[', b']')? {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// Passes over a value and gives its text.
    pub fn skip(&mut self) -> Result<&'a str, Fault> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'{') => self.object(|reader, _| reader.skip().map(drop))?,
            Some(b'[') => self.array(|reader| reader.skip().map(drop))?,
            _ => drop(self.scalar()?),
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// A value that is neither object nor array.
    pub fn scalar(&mut self) -> Result<Scalar<'a>, Fault> {
        match self.peek() {
            Some(b'"') => Ok(Scalar::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => Ok(Scalar::Number(self.number()?)),
            Some(b'{' | b'[') => Err(Fault::Unexpected),
            _ => {
                let words = [
                    ("null", Scalar::Null),
                    ("true", Scalar::Bool(true)),
                    ("false", Scalar::Bool(false)),
                    ("NaN", Scalar::Number(Number::Float(f64::NAN))),
                    ("Infinity", Scalar::Number(Number::Float(f64::INFINITY))),
                ];
                for (word, scalar) in words {
                    if self.takes_word(word) {
                        return Ok(scalar);
                    }
                }
                Err(self.malformed("Expecting value"))
            }
        }
    }

    /// A string; [`peek`](Self::peek) gave its quote.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        let quote = self.at;
        self.at += 1;
        let start = self.at;
        if self.string_run(quote)? == b'"' {
            let text = self.text.get(start..self.at).unwrap_or_default();
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut text = String::new();
        let mut start = start;
        loop {
            text.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                _ => text.push(self.escaped(quote)?),
            }
            start = self.at;
            self.string_run(quote)?;
        }
    }

    /// A number; [`peek`](Self::peek) gave its first byte.
    pub fn number(&mut self) -> Result<Number<'a>, Fault> {
        let start = self.at;
        if self.takes_word("-Infinity") {
            return Ok(Number::Float(f64::NEG_INFINITY));
        }
        let bytes = self.text.as_bytes();
        let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
        let digits = at;
        at = match bytes.get(at) {
            Some(b'0') => at + 1,
            _ => after_digits(bytes, at),
        };
        if at == digits {
            return Err(self.malformed("Expecting value"));
        }
        let (end, is_float) = after_fraction(bytes, at);
        self.at = end;
        let text = self.text.get(start..end).unwrap_or_default();
        if is_float {
            return text.parse().map(Number::Float).map_err(|_| Fault::TooMuch);
        }
        match text.parse() {
            Ok(number) => Ok(Number::Integer(number)),
            Err(_) if end - digits > MAX_DIGITS => Err(Fault::TooMuch),
            Err(_) => Ok(Number::Big(text)),
        }
    }

    /// Moves to the next quote or backslash, and gives it.
    fn string_run(&mut self, quote: usize) -> Result<u8, Fault> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        match rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            None => Err(self.malformed_at(quote, "Unterminated string starting at")),
            Some(run) => {
                self.at += run;
                match rest[run] {
                    byte @ (b'"' | b'\\') => Ok(byte),
                    _ => Err(self.malformed("Invalid control character at")),
                }
            }
        }
    }

    // At a backslash.
    fn escaped(&mut self, quote: usize) -> Result<char, Fault> {
        let backslash = self.at;
        let Some(&byte) = self.text.as_bytes().get(self.at + 1) else {
            return Err(self.malformed_at(quote, "Unterminated string starting at"));
        };
        self.at += 2;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(backslash + 1),
            _ => return Err(self.malformed_at(backslash, "Invalid \\escape")),
        })
    }

    fn unicode(&mut self, at: usize) -> Result<char, Fault> {
        const WHAT: &str = "Invalid \\uXXXX escape";
        let first = self.unit().ok_or_else(|| self.malformed_at(at, WHAT))?;
        if let Some(char) = char::from_u32(first) {
            return Ok(char);
        }
        let is_followed = self.takes_word("\\u");
        let second = if is_followed { self.unit() } else { None };
        match (first, second) {
            (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
                char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            }
            _ => None,
        }
        .ok_or_else(|| self.malformed_at(at, WHAT))
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.at += 4;
        is_hex.then(|| u32::from_str_radix(digits, 16).ok())?
    }

    /// Enters an object or array; false if it is empty, and over.
    fn open(&mut self, open: u8, close: u8) -> Result<bool, Fault> {
        if !self.takes(open) {
            return Err(Fault::Unexpected);
        }
        if self.depth == MAX_DEPTH {
            return Err(Fault::TooMuch);
        }
        self.depth += 1;
        let is_empty = self.takes(close);
        self.depth -= usize::from(is_empty);
        Ok(!is_empty)
    }

    /// After a member or element: whether another follows.
    fn goes_on(&mut self, close: u8) -> Result<bool, Fault> {
        if self.takes(b',') {
            return Ok(true);
        }
        if self.takes(close) {
            self.depth -= 1;
            return Ok(false);
        }
        Err(self.malformed("Expecting ',' delimiter"))
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_next = self
            .text
            .as_bytes()
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word.as_bytes()));
        self.at += if is_next { word.len() } else { 0 };
        is_next
    }

    #[cold]
    fn malformed(&self, what: &'static str) -> Fault {
        self.malformed_at(self.at, what)
    }

    #[cold]
    fn malformed_at(&self, at: usize, what: &'static str) -> Fault {
        let before = self.text.get(..at).unwrap_or(self.text);
        Fault::Malformed { at: before.chars().count(), what }
    }
}

fn after_digits(bytes: &[u8], start: usize) -> usize {
    let digits = bytes.get(start..).unwrap_or_default();
    start + digits.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

// A point or an exponent without digits is no part of the number.
fn after_fraction(bytes: &[u8], start: usize) -> (usize, bool) {
    let mut end = start;
    if bytes.get(end) == Some(&b'.') {
        let after = after_digits(bytes, end + 1);
        end = if after > end + 1 { after } else { end };
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let after = after_digits(bytes, end + 1 + sign);
        end = if after > end + 1 + sign { after } else { end };
    }
    (end, end > start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<(usize, &'static str)> {
        let mut reader = Reader::new(text);
        match reader.skip().and_then(|_| reader.end()) {
            Ok(()) => None,
            Err(Fault::Malformed { at, what }) => Some((at, what)),
            Err(other) => panic!("{other:?}"),
        }
    }

    // Seen in `json.loads` of Python 3.11.
    #[test]
    fn mistakes_are_found_where_python_finds_them() {
        let name = "Expecting property name enclosed in double quotes";
        let expected = [
            ("{", 1, name),
            ("{\"entities\": }", 13, "Expecting value"),
            ("[1,]", 3, "Expecting value"),
            ("{\"a\":1,}", 7, name),
            ("{\"a\" 1}", 5, "Expecting ':' delimiter"),
            ("{\"a\":1 \"b\":2}", 7, "Expecting ',' delimiter"),
            ("\"abc", 0, "Unterminated string starting at"),
            ("tru", 0, "Expecting value"),
            ("-", 0, "Expecting value"),
            ("01", 1, "Extra data"),
            ("1.", 1, "Extra data"),
            ("1e+", 1, "Extra data"),
            (" ", 1, "Expecting value"),
            ("", 0, "Expecting value"),
            ("{\"a\":[1,2", 9, "Expecting ',' delimiter"),
            ("\"ü\n\"", 2, "Invalid control character at"),
            ("\"\\x\"", 1, "Invalid \\escape"),
            ("\"\\u12g4\"", 2, "Invalid \\uXXXX escape"),
        ];
        for (text, at, what) in expected {
            assert_eq!(fault(text), Some((at, what)), "{text}");
        }
    }

    #[test]
    fn what_python_takes_is_taken() {
        for text in ["\u{feff}{}", "[NaN,Infinity,-Infinity]", "-0", "1e400", " [ ] ", "{\"\":{}}"]
        {
            assert_eq!(fault(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        let number = |text| Reader::new(text).number().unwrap();
        assert_eq!(number("-9223372036854775808"), Number::Integer(i64::MIN));
        assert_eq!(number("9223372036854775808"), Number::Big("9223372036854775808"));
        assert_eq!(number("1e2"), Number::Float(100.0));
        assert_eq!(Reader::new(&"9".repeat(5000)).number(), Err(Fault::TooMuch));
    }

    #[test]
    fn escapes_become_characters() {
        let text = Reader::new(r#""\"\\\/\b\f\n\r\t\u00fc\ud83d\ude00x""#).string().unwrap();
        assert_eq!(text, "\"\\/\u{8}\u{c}\n\r\tü😀x");
        assert!(Reader::new(r#""\ud83d\u0041""#).string().is_err());
        assert!(Reader::new(r#""\ude00""#).string().is_err());
    }

    #[test]
    fn depth_has_an_end() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(Reader::new(&nested(128)).skip().map(str::len), Ok(256));
        assert_eq!(Reader::new(&nested(129)).skip(), Err(Fault::TooMuch));
    }
}
