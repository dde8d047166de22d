//! RESP2 once more, plainly: whole slices, recursion, copies. It knows the limits that the
//! parser sets, and none of its ways.

use std::fmt;

#[derive(Clone, Debug)]
pub(super) enum Tree {
    Bulk(Vec<u8>),
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i32),
    Nil,
    Array(Vec<Tree>),
}

/// What a stream holds: whole replies with their lengths, and whether something follows that
/// is none; else what follows may become one.
pub(super) struct Stream {
    pub(super) replies: Vec<(Tree, usize)>,
    pub(super) is_malformed: bool,
}

pub(super) fn stream(mut data: &[u8]) -> Stream {
    let mut replies = Vec::new();
    loop {
        match tree(data, 0) {
            Ok((tree, rest)) => {
                replies.push((tree, data.len() - rest.len()));
                data = rest;
            }
            Err(stop) => {
                return Stream { replies, is_malformed: matches!(stop, Stop::Malformed) };
            }
        }
    }
}

enum Stop {
    Malformed,
    Unfinished,
}

type Parsed<'a, T> = Result<(T, &'a [u8]), Stop>;

fn tree(data: &[u8], depth: usize) -> Parsed<'_, Tree> {
    let (&kind, rest) = data.split_first().ok_or(Stop::Unfinished)?;
    match kind {
        b'$' => match length(rest)? {
            (None, rest) => Ok((Tree::Nil, rest)),
            (Some(length), _) if length > 512 << 20 => Err(Stop::Malformed),
            (Some(length), rest) => {
                let text = rest.get(..length).ok_or(Stop::Unfinished)?;
                let end = rest.get(length..length + 2).ok_or(Stop::Unfinished)?;
                let is_ended = end == b"\r\n";
                is_ended
                    .then(|| (Tree::Bulk(text.to_vec()), &rest[length + 2..]))
                    .ok_or(Stop::Malformed)
            }
        },
        b'*' => match length(rest)? {
            (None, rest) => Ok((Tree::Nil, rest)),
            (Some(count), _) if count > u32::MAX as usize => Err(Stop::Malformed),
            (Some(count), _) if count > 0 && depth == 8 => Err(Stop::Malformed),
            (Some(count), mut rest) => {
                let mut elements = Vec::new();
                for _ in 0..count {
                    let (element, after) = tree(rest, depth + 1)?;
                    elements.push(element);
                    rest = after;
                }
                Ok((Tree::Array(elements), rest))
            }
        },
        b'+' | b'-' | b':' => line(kind, rest),
        _ => Err(Stop::Malformed),
    }
}

fn line(kind: u8, data: &[u8]) -> Parsed<'_, Tree> {
    const LONGEST: usize = 64 << 10;
    let end = match data.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) if end <= LONGEST => end,
        None if data.len() < LONGEST + 2 => return Err(Stop::Unfinished),
        _ => return Err(Stop::Malformed),
    };
    let (text, rest) = (data[..end].to_vec(), &data[end + 2..]);
    let tree = match kind {
        b'+' => Tree::Simple(text),
        b'-' => Tree::Error(text),
        _ => {
            let text = String::from_utf8(text).map_err(|_| Stop::Malformed)?;
            let number: i64 = text.parse().map_err(|_| Stop::Malformed)?;
            Tree::Integer(number.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
        }
    };
    Ok((tree, rest))
}

fn length(data: &[u8]) -> Parsed<'_, Option<usize>> {
    if data.first() == Some(&b'-') {
        let (rest, after) = data.split_at_checked(4).ok_or(Stop::Unfinished)?;
        return if rest == b"-1\r\n" { Ok((None, after)) } else { Err(Stop::Malformed) };
    }
    let digits = data.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = data.split_at(digits);
    match rest {
        _ if digits > 10 => Err(Stop::Malformed),
        [b'\r', b'\n', rest @ ..] if digits > 0 => {
            let number = String::from_utf8_lossy(number).parse();
            Ok((Some(number.map_err(|_| Stop::Malformed)?), rest))
        }
        [] => Err(Stop::Unfinished),
        [b'\r'] if digits > 0 => Err(Stop::Unfinished),
        _ => Err(Stop::Malformed),
    }
}

impl Tree {
    /// The elements of an array of nothing but strings and nulls.
    pub(super) fn strings(&self) -> Option<Vec<Option<&[u8]>>> {
        let Tree::Array(elements) = self else { return None };
        elements
            .iter()
            .map(|element| match element {
                Tree::Bulk(text) => Some(Some(text.as_slice())),
                Tree::Nil => Some(None),
                _ => None,
            })
            .collect()
    }

    pub(super) fn first_error(&self) -> Option<&[u8]> {
        match self {
            Tree::Error(text) => Some(text),
            Tree::Array(elements) => elements.iter().find_map(Tree::first_error),
            _ => None,
        }
    }

    /// The reply in its shortest form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let line = |kind: &str, text: &[u8]| [kind.as_bytes(), text, b"\r\n"].concat();
        match self {
            Tree::Bulk(text) => [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat(),
            Tree::Simple(text) => line("+", text),
            Tree::Error(text) => line("-", text),
            Tree::Integer(number) => line(":", number.to_string().as_bytes()),
            Tree::Nil => b"$-1\r\n".to_vec(),
            Tree::Array(elements) => {
                let header = format!("*{}\r\n", elements.len()).into_bytes();
                let elements = elements.iter().map(Tree::to_bytes);
                std::iter::once(header).chain(elements).collect::<Vec<_>>().concat()
            }
        }
    }
}

impl fmt::Display for Tree {
    /// As [`Reply`](super::Reply) shows itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Bulk(text) => write!(f, "\"{}\" ", text.escape_ascii()),
            Tree::Simple(text) => write!(f, "{} ", text.escape_ascii()),
            Tree::Error(text) => write!(f, "error({}) ", text.escape_ascii()),
            Tree::Integer(number) => write!(f, "{number} "),
            Tree::Nil => f.write_str("nil "),
            Tree::Array(elements) => {
                write!(f, "[{}] ", elements.len())?;
                elements.iter().try_for_each(|element| element.fmt(f))
            }
        }
    }
}
