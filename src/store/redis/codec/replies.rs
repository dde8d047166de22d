//! Whole replies, copied out of a receive buffer with what the parser noted about them, to be
//! read by somebody else than who received them.

use super::reply::{Reply, Token};

/// Replies in the order in which they came.
#[derive(Default)]
pub(in super::super) struct Replies {
    data: Vec<u8>,
    tokens: Vec<Token>,
    ends: Vec<End>,
}

/// Where a reply ends in `data` and in `tokens`, and the parser's word about it.
#[derive(Clone, Copy, Default)]
struct End {
    data: usize,
    tokens: usize,
    is_mixed: bool,
}

impl Replies {
    /// Appends a copy of `reply`.
    pub(in super::super) fn push(&mut self, reply: Reply<'_>) {
        self.data.extend_from_slice(reply.data);
        self.tokens.extend_from_slice(reply.tokens);
        let (data, tokens) = (self.data.len(), self.tokens.len());
        self.ends.push(End { data, tokens, is_mixed: reply.is_mixed });
    }

    /// The replies, each as it was received.
    pub(in super::super) fn iter(&self) -> impl Iterator<Item = Reply<'_>> {
        (0..self.ends.len()).filter_map(|index| self.get(index))
    }

    /// The reply that came after `index` others; `None` if there were no more.
    pub(in super::super) fn get(&self, index: usize) -> Option<Reply<'_>> {
        let end = self.ends.get(index)?;
        let before = index.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = before.copied().unwrap_or_default();
        Some(Reply {
            tokens: self.tokens.get(start.tokens..end.tokens).unwrap_or_default(),
            data: self.data.get(start.data..end.data).unwrap_or_default(),
            is_mixed: end.is_mixed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ReplyParser;
    use super::*;

    #[test]
    fn replies_read_as_where_they_were_received() {
        let mut stream = &b"*2\r\n$1\r\na\r\n$-1\r\n-ERR no\r\n*0\r\n"[..];
        let (mut parser, mut replies) = (ReplyParser::default(), Replies::default());
        while let Some(length) = parser.advance(stream).unwrap() {
            let (reply, rest) = stream.split_at(length);
            replies.push(parser.reply(reply));
            stream = rest;
        }

        let shown: Vec<String> = replies.iter().map(|reply| reply.to_string()).collect();

        assert_eq!(shown, ["[2] \"a\" nil ", "error(ERR no) ", "[0] "]);
    }
}
