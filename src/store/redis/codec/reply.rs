//! Replies, parsed incrementally where they lie: the parser notes where each element begins
//! and ends, and nothing is copied. Bytes that are no RESP2 are an error, never a panic.

use std::fmt;

/// Arrays in arrays deeper than this are refused; Redis needs two for what is asked here.
const MAX_DEPTH: usize = 8;
/// Redis itself refuses a longer string (`proto-max-bulk-len`).
const MAX_BULK: usize = 512 << 20;
/// One reply may not be longer, all its elements together.
const MAX_REPLY: usize = 1 << 30;
/// One reply may not have more elements.
const MAX_ELEMENTS: usize = 4 << 20;
/// A simple string, an error or a number may not be longer.
const MAX_LINE: usize = 64 << 10;

/// The bytes received are not what a Redis server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

// Offsets are u32: MAX_REPLY keeps them below that, and a token in two words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token {
    Bulk { start: u32, end: u32 },
    Simple { start: u32, end: u32 },
    Error { start: u32, end: u32 },
    Integer(i32),
    Nil,
    Array(u32),
}

/// Parses one reply after the other, each as soon as it is whole.
#[derive(Default)]
pub(in super::super) struct ReplyParser {
    tokens: Vec<Token>,
    // Elements still to come of each array that is open, the outermost first.
    open: Vec<usize>,
    position: usize,
    done: bool,
    // Whether an element after the first is anything but a string or a null.
    is_mixed: bool,
}

impl ReplyParser {
    /// Goes on with the reply that begins at the start of `data`; `data` must hold what it
    /// held at the last call, and may hold more. `Some(length)` when the reply is whole.
    pub(in super::super) fn advance(&mut self, data: &[u8]) -> Result<Option<usize>, Malformed> {
        if self.done {
            self.reset();
        }
        loop {
            self.short_strings(data);
            let element = self.element(data)?;
            if self.tokens.len() > MAX_ELEMENTS {
                return Err(Malformed("a reply of too many elements"));
            }
            let Some(elements) = element else {
                return match self.position > MAX_REPLY {
                    true => Err(Malformed("a reply longer than 1 GB")),
                    false => Ok(None),
                };
            };
            if elements > 0 {
                if self.open.len() == MAX_DEPTH {
                    return Err(Malformed("arrays nested too deeply"));
                }
                self.open.push(elements);
                continue;
            }
            while let Some(left) = self.open.last_mut() {
                *left -= 1;
                if *left > 0 {
                    break;
                }
                self.open.pop();
            }
            if self.open.is_empty() {
                self.done = true;
                return Ok(Some(self.position));
            }
        }
    }

    /// The reply that [`advance`](Self::advance) has just completed, over the same bytes.
    pub(in super::super) fn reply<'a>(&'a self, data: &'a [u8]) -> Reply<'a> {
        Reply { tokens: &self.tokens, data, is_mixed: self.is_mixed }
    }

    /// Forgets the reply that is under way.
    pub(in super::super) fn reset(&mut self) {
        self.tokens.clear();
        self.open.clear();
        self.position = 0;
        self.done = false;
        self.is_mixed = false;
    }

    /// Parses one element: `Some(n)` when it is whole, n > 0 for an array whose n elements
    /// follow; `None` when bytes are missing.
    fn element(&mut self, data: &[u8]) -> Result<Option<usize>, Malformed> {
        let start = self.position + 1;
        let Some(&kind) = data.get(self.position) else { return Ok(None) };
        match kind {
            b'$' => self.bulk(data, start),
            b'*' => self.array(data, start),
            b'+' | b'-' | b':' => self.line(kind, data, start),
            _ => Err(Malformed("a reply that begins with none of + - : $ *")),
        }
    }

    /// Parses the strings of up to 99 bytes that come next in the innermost array, but for its
    /// last element: nearly all that a reply consists of. What it is not sure of it leaves to
    /// [`element`](Self::element).
    #[inline]
    fn short_strings(&mut self, data: &[u8]) {
        let Some(left) = self.open.last_mut() else { return };
        while *left > 1
            && let Some((start, end)) = short_string(data, self.position)
        {
            self.tokens.push(Token::Bulk { start: start as u32, end: end as u32 });
            self.position = end + 2;
            *left -= 1;
        }
    }

    fn bulk(&mut self, data: &[u8], start: usize) -> Result<Option<usize>, Malformed> {
        let Some((length, start)) = length(data, start)? else { return Ok(None) };
        let Some(length) = length else { return Ok(self.push(Token::Nil, start, 0)) };
        if length > MAX_BULK || start + length > MAX_REPLY {
            return Err(Malformed("a string longer than Redis allows"));
        }
        let end = start + length;
        let Some(tail) = data.get(end..end + 2) else { return Ok(None) };
        if tail != b"\r\n" {
            return Err(Malformed("a string that does not end where its length says"));
        }
        Ok(self.push(Token::Bulk { start: start as u32, end: end as u32 }, end + 2, 0))
    }

    fn array(&mut self, data: &[u8], start: usize) -> Result<Option<usize>, Malformed> {
        let Some((length, next)) = length(data, start)? else { return Ok(None) };
        let Some(length) = length else { return Ok(self.push(Token::Nil, next, 0)) };
        let count =
            u32::try_from(length).map_err(|_| Malformed("an array of too many elements"))?;
        Ok(self.push(Token::Array(count), next, length))
    }

    #[cold]
    fn line(&mut self, kind: u8, data: &[u8], start: usize) -> Result<Option<usize>, Malformed> {
        // Beyond the limit it is too long, also where its end has been received.
        let longest = data.len().min(start + MAX_LINE + 2);
        let rest = data.get(start..longest).unwrap_or_default();
        let Some(length) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return match rest.len() >= MAX_LINE + 2 {
                true => Err(Malformed("a line of more than 64 kB")),
                false => Ok(None),
            };
        };
        let end = start + length;
        if end > MAX_REPLY {
            return Err(Malformed("a reply longer than 1 GB"));
        }
        let token = match kind {
            b'+' => Token::Simple { start: start as u32, end: end as u32 },
            b'-' => Token::Error { start: start as u32, end: end as u32 },
            _ => Token::Integer(integer(rest.get(..length).unwrap_or_default())?),
        };
        Ok(self.push(token, end + 2, 0))
    }

    fn push(&mut self, token: Token, position: usize, elements: usize) -> Option<usize> {
        let is_string = matches!(token, Token::Bulk { .. } | Token::Nil);
        self.is_mixed |= !self.tokens.is_empty() && !is_string;
        self.tokens.push(token);
        self.position = position;
        Some(elements)
    }
}

/// Where the content of the string at `at` lies, if it is one of up to 99 bytes and whole.
#[inline]
fn short_string(data: &[u8], at: usize) -> Option<(usize, usize)> {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let (length, start) = match *data.get(at..at + 5)? {
        [b'$', ones, b'\r', b'\n', _] if digit(ones) < 10 => (digit(ones), at + 4),
        [b'$', tens, ones, b'\r', b'\n'] if digit(tens) < 10 && digit(ones) < 10 => {
            (digit(tens) * 10 + digit(ones), at + 5)
        }
        _ => return None,
    };
    let end = start + length;
    (end < MAX_REPLY && data.get(end..end + 2)? == b"\r\n").then_some((start, end))
}

/// The length that stands at `start` and what comes after its line; the inner `None` is -1.
fn length(data: &[u8], start: usize) -> Result<Option<(Option<usize>, usize)>, Malformed> {
    let mut length = 0usize;
    let mut at = start;
    if data.get(at) == Some(&b'-') {
        return match data.get(at + 1..at + 4) {
            Some(b"1\r\n") => Ok(Some((None, at + 4))),
            Some(_) => Err(Malformed("a negative length")),
            None => Ok(None),
        };
    }
    loop {
        match data.get(at) {
            Some(digit @ b'0'..=b'9') if at - start < 10 => {
                length = length * 10 + usize::from(digit - b'0');
            }
            Some(b'\r') if at > start => break,
            Some(_) => return Err(Malformed("a length that is no number")),
            None => return Ok(None),
        }
        at += 1;
    }
    match data.get(at + 1) {
        Some(b'\n') => Ok(Some((Some(length), at + 2))),
        Some(_) => Err(Malformed("a length that is no number")),
        None => Ok(None),
    }
}

fn integer(text: &[u8]) -> Result<i32, Malformed> {
    // What is asked of the server here counts fields and keys: small numbers.
    let text = std::str::from_utf8(text).map_err(|_| Malformed("a number that is none"))?;
    let number: i64 = text.parse().map_err(|_| Malformed("a number that is none"))?;
    Ok(number.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

/// A reply, or an element of one, in the receive buffer.
#[derive(Clone, Copy)]
pub(in super::super) struct Reply<'a> {
    pub(super) tokens: &'a [Token],
    pub(super) data: &'a [u8],
    pub(super) is_mixed: bool,
}

impl<'a> Reply<'a> {
    /// The text of an error reply.
    pub(in super::super) fn error(&self) -> Option<&'a [u8]> {
        match self.tokens.first() {
            Some(&Token::Error { start, end }) => Some(self.slice(start, end)),
            _ => None,
        }
    }

    /// Whether this is the null string or the null array.
    pub(in super::super) fn is_nil(&self) -> bool {
        matches!(self.tokens.first(), Some(Token::Nil))
    }

    /// The text of a string, simple or not.
    pub(in super::super) fn text(&self) -> Option<&'a [u8]> {
        match self.tokens.first() {
            Some(&(Token::Bulk { start, end } | Token::Simple { start, end })) => {
                Some(self.slice(start, end))
            }
            _ => None,
        }
    }

    /// The number, if this is one; numbers of more than 32 bits are cut to their bounds.
    pub(in super::super) fn integer(&self) -> Option<i32> {
        match self.tokens.first() {
            Some(&Token::Integer(number)) => Some(number),
            _ => None,
        }
    }

    /// The number, if this is one and no element of an array, whatever its size.
    pub(in super::super) fn wide_integer(&self) -> Option<i64> {
        let digits = self.data.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The elements, of whatever kind, if this is an array; else none.
    pub(in super::super) fn elements(&self) -> impl Iterator<Item = Reply<'a>> + use<'a> {
        let is_array = matches!(self.tokens.first(), Some(Token::Array(_)));
        let tokens = if is_array { self.tokens.get(1..) } else { None };
        let (mut rest, mut element) = (tokens.unwrap_or_default(), *self);
        std::iter::from_fn(move || {
            let (first, after) = rest.split_at_checked(whole(rest))?;
            (element.tokens, rest) = (first, after);
            (!first.is_empty()).then_some(element)
        })
    }

    /// The bytes that this reply was parsed from: all of them, if it is no element of another.
    pub(in super::super) fn bytes(&self) -> &'a [u8] {
        self.data
    }

    /// How many elements, if this is an array.
    pub(in super::super) fn array_len(&self) -> Option<usize> {
        match self.tokens.first() {
            Some(&Token::Array(count)) => Some(count as usize),
            _ => None,
        }
    }

    /// The elements, if this is an array of nothing but strings and nulls.
    pub(in super::super) fn strings(&self) -> Option<impl Iterator<Item = Option<&'a [u8]>>> {
        let (Some(&Token::Array(count)), Some(tokens)) =
            (self.tokens.first(), self.tokens.get(1..))
        else {
            return None;
        };
        let is_flat = !self.is_mixed && tokens.len() == count as usize;
        let reply = *self;
        is_flat.then(|| {
            tokens.iter().map(move |token| match *token {
                Token::Bulk { start, end } => Some(reply.slice(start, end)),
                _ => None,
            })
        })
    }

    /// The first error in this reply, at whatever depth.
    pub(in super::super) fn first_error(&self) -> Option<&'a [u8]> {
        self.tokens.iter().find_map(|token| match *token {
            Token::Error { start, end } => Some(self.slice(start, end)),
            _ => None,
        })
    }

    fn slice(&self, start: u32, end: u32) -> &'a [u8] {
        // Tokens lie inside the data that they were parsed from; a reply over other data
        // reads as empty instead of panicking.
        self.data.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// How many tokens the first element of `tokens` has, its own elements included.
fn whole(tokens: &[Token]) -> usize {
    let (mut taken, mut missing) = (0, 1usize);
    for token in tokens {
        if missing == 0 {
            break;
        }
        taken += 1;
        missing -= 1;
        if let Token::Array(count) = token {
            missing += *count as usize;
        }
    }
    taken
}

impl fmt::Display for Reply<'_> {
    /// The whole reply on one line, for tests and messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for token in self.tokens {
            match *token {
                Token::Bulk { start, end } => {
                    write!(f, "\"{}\" ", self.slice(start, end).escape_ascii())?;
                }
                Token::Simple { start, end } => {
                    write!(f, "{} ", self.slice(start, end).escape_ascii())?;
                }
                Token::Error { start, end } => {
                    write!(f, "error({}) ", self.slice(start, end).escape_ascii())?;
                }
                Token::Integer(number) => write!(f, "{number} ")?,
                Token::Nil => f.write_str("nil ")?,
                Token::Array(count) => write!(f, "[{count}] ")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses a stream that arrives in pieces, as a connection does.
    fn parse(pieces: &[&[u8]]) -> Result<Vec<String>, Malformed> {
        let (mut parser, mut data, mut replies) = (ReplyParser::default(), Vec::new(), Vec::new());
        for piece in pieces {
            data.extend_from_slice(piece);
            while let Some(length) = parser.advance(&data)? {
                replies.push(parser.reply(&data).to_string());
                data.drain(..length);
            }
        }
        Ok(replies)
    }

    #[test]
    fn every_kind_of_reply() {
        let stream = b"+OK\r\n-ERR no\r\n:42\r\n$-1\r\n*-1\r\n$0\r\n\r\n*0\r\n*2\r\n$3\r\na\r\n\r\n*1\r\n:7\r\n";

        assert_eq!(
            parse(&[stream]).unwrap(),
            ["OK ", "error(ERR no) ", "42 ", "nil ", "nil ", "\"\" ", "[0] ",]
                .into_iter()
                .chain(["[2] \"a\\r\\n\" [1] 7 "])
                .collect::<Vec<_>>()
                .as_slice()
        );
    }

    #[test]
    fn elements_within_elements() {
        let stream = b"*3\r\n*2\r\n:1\r\n*1\r\n+a\r\n$1\r\nb\r\n*0\r\n";
        let mut parser = ReplyParser::default();
        parser.advance(stream).unwrap();
        let reply = parser.reply(stream);

        let shown: Vec<String> = reply.elements().map(|element| element.to_string()).collect();
        assert_eq!(shown, ["[2] 1 [1] a ", "\"b\" ", "[0] "]);
        let mut inner = reply.elements().next().unwrap().elements();
        assert_eq!(inner.next().and_then(|number| number.integer()), Some(1));
        let list = inner.next().unwrap();
        assert_eq!(list.elements().next().and_then(|text| text.text()), Some(&b"a"[..]));
        assert!(inner.next().is_none() && list.text().is_none());
        assert_eq!(reply.bytes(), stream);
    }

    #[test]
    fn what_is_no_resp_is_an_error() {
        for stream in [
            &b"hello\r\n"[..],
            b"$x\r\n",
            b"$-2\r\n",
            b"$\r\n",
            b"$99999999999\r\n",
            b"$1\r\nabc",
            b":x\r\n",
            b"*9999999999\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        ] {
            assert!(parse(&[stream]).is_err(), "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn a_line_has_a_limit_however_it_arrives() {
        for (length, is_refused) in [(MAX_LINE, false), (MAX_LINE + 1, true)] {
            let line = [b"+", vec![b'x'; length].as_slice(), b"\r\n"].concat();
            let halves = line.split_at(line.len() - 1);

            assert_eq!(parse(&[&line]).is_err(), is_refused, "{length}");
            assert_eq!(parse(&[halves.0, halves.1]).is_err(), is_refused, "{length}, in halves");
        }
    }

    #[test]
    fn elements_are_counted_before_the_last_has_come() {
        // 4 billion are announced; each piece ends within an element.
        let piece = b"\r\n$0\r\n".repeat(MAX_ELEMENTS / 8 + 1);
        let mut parser = ReplyParser::default();
        let mut data = b"*4294967295\r\n$0\r\n".to_vec();

        for _ in 0..7 {
            data.extend_from_slice(&piece);
            assert_eq!(parser.advance(&data), Ok(None));
        }
        data.extend_from_slice(&piece);

        assert!(parser.advance(&data).is_err());
    }

    fn reply(depth: u32) -> BoxedStrategy<Vec<u8>> {
        let leaf = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|text| {
                let mut bytes = format!("${}\r\n", text.len()).into_bytes();
                bytes.extend_from_slice(&text);
                bytes.extend_from_slice(b"\r\n");
                bytes
            }),
            Just(b"$-1\r\n".to_vec()),
            Just(b"+QUEUED\r\n".to_vec()),
            Just(b"-ERR because\r\n".to_vec()),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        ];
        leaf.prop_recursive(depth, 64, 8, |inner| {
            proptest::collection::vec(inner, 0..8).prop_map(|elements| {
                let mut bytes = format!("*{}\r\n", elements.len()).into_bytes();
                bytes.extend(elements.concat());
                bytes
            })
        })
        .boxed()
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_replies(
            replies in proptest::collection::vec(reply(3), 1..8),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = replies.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();

            let whole = parse(&[&stream]).unwrap();

            prop_assert_eq!(whole.len(), replies.len());
            prop_assert_eq!(parse(&pieces).unwrap(), whole);
        }

        #[test]
        fn garbage_never_panics(
            garbage in proptest::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(&b"+-:$*0123456789\r\n"[..])], 0..200),
        ) {
            let _ = parse(&[&garbage]);
        }
    }
}
