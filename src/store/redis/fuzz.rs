//! The target `replies`: bytes as a server, or something that poses as one, may send them.
//! Compares the parser and what reads rows from its replies with the plainest code that can be
//! written for the same. Must not know sockets.
#![allow(clippy::panic, clippy::unwrap_used, reason = "what does not hold stops the fuzzer")]

mod plain;
mod rows;

use super::codec::{Replies, Reply, ReplyParser};
use plain::Tree;

/// Two bytes that choose how the stream is cut and what is read from it, then the stream.
pub fn replies(input: &[u8]) {
    let Some((&[cuts, reading], stream)) = input.split_first_chunk::<2>() else { return };
    let expected = plain::stream(stream);
    assert_eq!(parsed(&[stream]), shown(&expected), "the whole stream");
    assert_eq!(parsed(&pieces(stream, cuts)), shown(&expected), "the stream in pieces");
    if stream.len() <= 256 {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(parsed(&bytes), shown(&expected), "the stream byte by byte");
    }
    let mut rest = stream;
    for (tree, length) in &expected.replies {
        let (bytes, after) = rest.split_at(*length);
        agrees(tree, bytes);
        rest = after;
    }
    rows::read(reading, stream, &expected.replies);
}

/// Replies as text, and whether the stream then breaks off; else more may come.
type Shown = (Vec<String>, bool);

fn shown(expected: &plain::Stream) -> Shown {
    let texts = expected.replies.iter().map(|(tree, _)| tree.to_string());
    (texts.collect(), expected.is_malformed)
}

/// Parses a stream that arrives in pieces, as a connection does.
fn parsed(pieces: &[&[u8]]) -> Shown {
    let (mut parser, mut data, mut replies) = (ReplyParser::default(), Vec::new(), Vec::new());
    for piece in pieces {
        data.extend_from_slice(piece);
        loop {
            match parser.advance(&data) {
                Ok(Some(length)) => {
                    replies.push(parser.reply(&data).to_string());
                    data.drain(..length);
                }
                Ok(None) => break,
                Err(_) => return (replies, true),
            }
        }
    }
    (replies, false)
}

/// Pieces of up to 1, 2, 4 … 64 bytes, each of another length.
fn pieces(mut stream: &[u8], mut dice: u8) -> Vec<&[u8]> {
    let longest = 1 << (dice % 7);
    let mut pieces = Vec::new();
    while !stream.is_empty() {
        dice = dice.wrapping_mul(5).wrapping_add(17);
        let (piece, rest) = stream.split_at((1 + usize::from(dice) % longest).min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// One reply, read in every way there is.
fn agrees(tree: &Tree, bytes: &[u8]) {
    let mut parser = ReplyParser::default();
    assert_eq!(parser.advance(bytes), Ok(Some(bytes.len())));
    let reply = parser.reply(bytes);
    element_agrees(tree, reply);
    assert_eq!(reply.first_error(), tree.first_error());
    assert_eq!(reply.bytes(), bytes);
    let strings = reply.strings().map(|strings| strings.collect::<Vec<_>>());
    assert_eq!(strings, tree.strings(), "strings");

    let mut copies = Replies::default();
    copies.push(reply);
    copies.push(reply);
    assert!(copies.iter().all(|copy| copy.to_string() == tree.to_string()));

    // What is written anew is the same reply, and no longer: lengths have one short form.
    let written = tree.to_bytes();
    assert!(written.len() <= bytes.len());
    assert_eq!(parsed(&[&written]), (vec![tree.to_string()], false));
    let again = plain::stream(&written);
    assert!(again.replies.first().is_some_and(|(again, _)| again.to_bytes() == written));
}

fn element_agrees(tree: &Tree, reply: Reply<'_>) {
    assert_eq!(reply.to_string(), tree.to_string());
    let (text, error, integer, count) = match tree {
        Tree::Bulk(text) | Tree::Simple(text) => (Some(text.as_slice()), None, None, None),
        Tree::Error(text) => (None, Some(text.as_slice()), None, None),
        Tree::Integer(number) => (None, None, Some(*number), None),
        Tree::Nil => (None, None, None, None),
        Tree::Array(elements) => (None, None, None, Some(elements.len())),
    };
    assert_eq!((reply.text(), reply.error(), reply.integer()), (text, error, integer));
    assert_eq!((reply.is_nil(), reply.array_len()), (matches!(tree, Tree::Nil), count));
    let mut elements = reply.elements();
    if let Tree::Array(trees) = tree {
        for tree in trees {
            element_agrees(tree, elements.next().unwrap());
        }
    }
    assert!(elements.next().is_none(), "more elements than the array has");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    /// A field that one of the groups reads, or one that none does.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        select(vec![&b"aaaa"[..], b"qaaa", b"baaa", b"caaa", b"\0\0\0\0", b"zzzz", b"_ts:gone"])
            .prop_map(<[u8]>::to_vec)
    }

    fn timestamp() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            9 => Just(b"\x08\x80\x90\xa4\xae\x06".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..4),
        ]
    }

    /// An answer to HGETALL: fields and values in any order, timestamps among them.
    fn hash() -> impl Strategy<Value = Tree> {
        let value = proptest::collection::vec(any::<u8>(), 0..120);
        let view =
            select(&["driver", "hub"][..]).prop_map(|view| format!("_ts:{view}").into_bytes());
        let pair = prop_oneof![3 => (field(), value), 2 => (view, timestamp())];
        proptest::collection::vec(pair, 0..12).prop_map(|pairs| {
            let strings = pairs.into_iter().flat_map(|(field, value)| [field, value]);
            Tree::Array(strings.map(Tree::Bulk).collect())
        })
    }

    /// An answer to HMGET of one of the groups.
    fn list() -> impl Strategy<Value = Tree> {
        let element = prop_oneof![
            4 => timestamp().prop_map(Tree::Bulk),
            1 => Just(Tree::Nil),
        ];
        let lengths = select(&[3, 4, 10][..]);
        lengths.prop_flat_map(move |length| {
            proptest::collection::vec(element.clone(), length).prop_map(Tree::Array)
        })
    }

    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let refusal = select(vec![&b"NOPERM this user"[..], b"ERR unknown command", b"ERR no"])
            .prop_map(|text| Tree::Error(text.to_vec()));
        prop_oneof![5 => hash(), 5 => list(), 1 => refusal].prop_map(|tree| tree.to_bytes())
    }

    proptest! {
        #[test]
        fn every_value_is_in_the_slot_of_its_field_however_it_arrives(
            chosen in any::<[u8; 2]>(),
            stream in proptest::collection::vec(reply(), 1..6),
        ) {
            replies(&[&chosen[..], &stream.concat()].concat());
        }

        #[test]
        fn a_stream_cut_or_changed_anywhere_gives_what_is_whole(
            chosen in any::<[u8; 2]>(),
            stream in proptest::collection::vec(reply(), 1..6),
            cut in any::<Index>(),
            change in proptest::option::of((any::<Index>(), any::<u8>())),
        ) {
            let mut input = [&chosen[..], &stream.concat()].concat();
            if let Some((at, byte)) = change {
                let at = at.index(input.len());
                input[at] = byte;
            }
            input.truncate(cut.index(input.len() + 1));
            replies(&input);
        }
    }
}
