//! Messages in a body: one byte that says whether it is compressed, four of length, the message.
//! Must not know what messages mean.

use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};
use flate2::bufread::GzDecoder;

use super::status::{Code, Status};

/// Bytes before each message.
pub(super) const PREFIX: usize = 5;
/// The encodings of messages that are taken, as a client is told.
pub(super) const ACCEPTED: &str = "identity,gzip";

/// How a client encodes the messages that it marks as compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// By the header `grpc-encoding`.
    pub(super) fn of(header: Option<&[u8]>) -> Result<Self, Status> {
        match header {
            None | Some(b"identity") => Ok(Encoding::Identity),
            Some(b"gzip") => Ok(Encoding::Gzip),
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                let text = format!("messages are not taken in '{other}', but in {ACCEPTED}");
                Err(Status::new(Code::Unimplemented, text))
            }
        }
    }
}

/// The one message of `body`, of at most `limit` bytes.
pub(super) fn lone(mut body: Bytes, encoding: Encoding, limit: usize) -> Result<Bytes, Status> {
    match take(&mut body, limit)? {
        Some(message) if body.is_empty() => message.decoded(encoding, limit),
        Some(_) => Err(broken("there is more than one message")),
        None if body.is_empty() => Err(broken("there is no message")),
        None => Err(broken("the message is cut off")),
    }
}

/// A message out of its frame.
pub(super) struct Framed {
    is_compressed: bool,
    bytes: Bytes,
}

impl Framed {
    pub(super) fn decoded(self, encoding: Encoding, limit: usize) -> Result<Bytes, Status> {
        match (self.is_compressed, encoding) {
            (false, _) => Ok(self.bytes),
            (true, Encoding::Identity) => {
                Err(broken("a message is compressed, and grpc-encoding does not say how"))
            }
            (true, Encoding::Gzip) => gunzip(&self.bytes, limit),
        }
    }
}

/// Takes the next message off `body`; `None`: not all of it is there.
pub(super) fn take<B: Buf>(body: &mut B, limit: usize) -> Result<Option<Framed>, Status> {
    let Some((flag, length)) = prefix(body.chunk()) else { return Ok(None) };
    if flag > 1 {
        return Err(broken("a message is marked as neither plain nor compressed"));
    }
    if length > limit {
        return Err(too_large(limit));
    }
    if body.remaining() < PREFIX + length {
        return Ok(None);
    }
    body.advance(PREFIX);
    Ok(Some(Framed { is_compressed: flag == 1, bytes: body.copy_to_bytes(length) }))
}

fn prefix(chunk: &[u8]) -> Option<(u8, usize)> {
    let ([flag, length @ ..], _) = chunk.split_first_chunk::<PREFIX>()?;
    Some((*flag, usize::try_from(u32::from_be_bytes(*length)).ok()?))
}

fn gunzip(bytes: &[u8], limit: usize) -> Result<Bytes, Status> {
    let mut message = Vec::new();
    let mut decoder = GzDecoder::new(bytes).take(limit as u64 + 1);
    decoder.read_to_end(&mut message).map_err(|_| broken("a message is no gzip"))?;
    match message.len() > limit {
        true => Err(too_large(limit)),
        false => Ok(message.into()),
    }
}

/// `message` in its frame.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let mut out = begin(message.len());
    out.extend_from_slice(message);
    end(out)
}

/// The frame of a message of about so many bytes, which are to be appended.
pub(super) fn begin(capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX + capacity);
    out.resize(PREFIX, 0);
    out
}

/// A frame with all of its message.
pub(super) fn end(mut out: Vec<u8>) -> Vec<u8> {
    // Answers are limited to far less than four gigabytes.
    let length = u32::try_from(out.len() - PREFIX).unwrap_or(u32::MAX);
    out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    out
}

/// The messages of a body that comes in pieces.
#[derive(Default)]
pub(super) struct Frames(BytesMut);

impl Frames {
    /// Adds what has come.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next message; `None`: it has not come yet.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<Framed>, Status> {
        take(&mut self.0, limit)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cold]
fn too_large(limit: usize) -> Status {
    let text =
        format!("the message has more than {limit} bytes, the limit of this server; ask in parts");
    Status::new(Code::ResourceExhausted, text)
}

#[cold]
pub(super) fn broken(text: &str) -> Status {
    Status::new(Code::Internal, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LIMIT: usize = 1000;

    fn flagged(flag: u8, message: &[u8]) -> Vec<u8> {
        let mut out = frame(message);
        out[0] = flag;
        out
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn taken(body: Vec<u8>, encoding: Encoding) -> Result<Bytes, Code> {
        lone(body.into(), encoding, LIMIT).map_err(|status| status.code)
    }

    #[test]
    fn a_message_comes_back() {
        assert_eq!(taken(flagged(0, b"abc"), Encoding::Identity).unwrap(), "abc");
        assert_eq!(taken(flagged(0, b""), Encoding::Gzip).unwrap(), "");
        assert_eq!(taken(flagged(1, &gzip(b"abc")), Encoding::Gzip).unwrap(), "abc");
    }

    #[test]
    fn broken_frames_are_refused() {
        let two = [flagged(0, b"a"), flagged(0, b"b")].concat();
        let cut = flagged(0, b"abc")[..6].to_vec();
        for body in [vec![], vec![0; 4], cut, two, flagged(2, b"a"), flagged(1, b"a")] {
            assert_eq!(taken(body, Encoding::Identity), Err(Code::Internal));
        }
        assert_eq!(taken(flagged(1, b"no gzip"), Encoding::Gzip), Err(Code::Internal));
        let cut = gzip(&[7; 500]);
        assert_eq!(taken(flagged(1, &cut[..cut.len() - 12]), Encoding::Gzip), Err(Code::Internal));
    }

    #[test]
    fn large_messages_are_refused_before_they_are_there() {
        let announced = [&[0][..], &u32::MAX.to_be_bytes()].concat();
        assert_eq!(taken(announced, Encoding::Identity), Err(Code::ResourceExhausted));
        let bomb = flagged(1, &gzip(&vec![0; 100_000]));
        assert!(bomb.len() < LIMIT);
        assert_eq!(taken(bomb, Encoding::Gzip), Err(Code::ResourceExhausted));
    }

    #[test]
    fn encodings_are_known_or_not() {
        assert_eq!(Encoding::of(None).unwrap(), Encoding::Identity);
        assert_eq!(Encoding::of(Some(b"gzip")).unwrap(), Encoding::Gzip);
        assert_eq!(Encoding::of(Some(b"br")).unwrap_err().code, Code::Unimplemented);
    }

    #[test]
    fn messages_come_in_pieces() {
        let bytes = [flagged(0, b"abc"), flagged(0, b"")].concat();
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for byte in bytes {
            frames.push(&[byte]);
            while let Some(framed) = frames.next(LIMIT).unwrap() {
                found.push(framed.decoded(Encoding::Identity, LIMIT).unwrap());
            }
        }
        assert_eq!(found, ["abc", ""]);
        assert!(frames.is_empty());
    }
}
