//! Candidates that are too many for memory, in a temporary file: divided by the hash of their
//! keys into shares, each of which can be decided by itself.
//!
//! The file has no name from the moment it is made, so nothing is left behind, however the
//! process ends. Blocks of all shares stand in it in the order in which they were full: one open
//! file and one stream of writes, whatever the number of shares.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use super::latest::Candidate;
use super::timestamps::Moment;
use crate::error::{Error, ErrorKind, Result};

/// Hash bits that tell shares apart.
const SHARE_BITS: u32 = 8;
const SHARES: usize = 1 << SHARE_BITS;
/// Bits that neither a hash table uses (the lowest, and the seven highest) nor the depth before.
const FIRST_BIT: u32 = 24;
/// How often a share can be divided again.
pub(super) const MAX_DEPTH: u32 = 4;
/// A share's candidates go to the file when they are so many bytes, or fewer where memory is
/// short.
const MAX_BLOCK_BYTES: usize = 16 << 10;
const MIN_BLOCK_BYTES: usize = 1 << 10;
/// Of a candidate, its key left out: lengths, times and row.
const HEAD_BYTES: usize = 32;
/// Stands for the nanoseconds of a created timestamp that is null.
const NO_CREATED: u16 = u16::MAX;

/// Candidates by share.
pub(super) struct Spill {
    depth: u32,
    file: File,
    len: u64,
    block_bytes: usize,
    shares: Vec<Share>,
}

#[derive(Default)]
struct Share {
    buffer: Vec<u8>,
    blocks: Vec<Block>,
}

struct Block {
    start: u64,
    bytes: usize,
}

impl Spill {
    /// An empty one. `depth` is how often what comes was divided before, below [`MAX_DEPTH`];
    /// blocks that are not full take about `memory` bytes.
    pub fn new(depth: u32, memory: usize) -> Result<Self> {
        let shares = (0..SHARES).map(|_| Share::default()).collect();
        let block_bytes = (memory / SHARES).clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES);
        Ok(Spill { depth, file: unnamed_file()?, len: 0, block_bytes, shares })
    }

    /// Adds a candidate to the share of its key's hash.
    pub fn push(&mut self, hash: u64, key: &[u8], candidate: Candidate) -> Result<()> {
        let bits = hash >> (FIRST_BIT + self.depth * SHARE_BITS);
        let share = &mut self.shares[bits as usize % SHARES];
        let is_full = share.buffer.len() + HEAD_BYTES + key.len() > self.block_bytes;
        if is_full && !share.buffer.is_empty() {
            self.file.write_all(&share.buffer).map_err(|cause| no_room(self.len, cause))?;
            share.blocks.push(Block { start: self.len, bytes: share.buffer.len() });
            self.len += share.buffer.len() as u64;
            share.buffer.clear();
        }
        share.buffer.reserve_exact(self.block_bytes.saturating_sub(share.buffer.len()));
        encode(key, candidate, &mut share.buffer);
        Ok(())
    }

    /// Gives the candidates of one share after the other to `take`, and ends each share with
    /// `end`.
    pub fn read<T>(
        mut self,
        mut begin: impl FnMut() -> T,
        mut take: impl FnMut(&mut T, &[u8], Candidate) -> Result<()>,
        mut end: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        for share in std::mem::take(&mut self.shares) {
            let mut state = begin();
            for block in &share.blocks {
                bytes.resize(block.bytes, 0);
                self.read_block(block, &mut bytes)?;
                decode_all(&bytes, |key, candidate| take(&mut state, key, candidate))?;
            }
            decode_all(&share.buffer, |key, candidate| take(&mut state, key, candidate))?;
            end(state)?;
        }
        Ok(())
    }

    fn read_block(&mut self, block: &Block, bytes: &mut [u8]) -> Result<()> {
        let read = self.file.seek(SeekFrom::Start(block.start));
        read.and_then(|_| self.file.read_exact(bytes)).map_err(|cause| {
            let message = "can't read back keys and times that were put in a temporary file";
            Error::new(ErrorKind::Io, message).with_source(cause)
        })
    }
}

fn encode(key: &[u8], candidate: Candidate, out: &mut Vec<u8>) {
    let created = candidate.created.unwrap_or(Moment { micros: 0, nanos: NO_CREATED });
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(&candidate.event.nanos.to_le_bytes());
    out.extend_from_slice(&created.nanos.to_le_bytes());
    out.extend_from_slice(&candidate.event.micros.to_le_bytes());
    out.extend_from_slice(&created.micros.to_le_bytes());
    out.extend_from_slice(&candidate.row.to_le_bytes());
    out.extend_from_slice(key);
}

fn decode_all(
    mut bytes: &[u8],
    mut take: impl FnMut(&[u8], Candidate) -> Result<()>,
) -> Result<()> {
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let (short, long) = head.split_at(8);
        let nanos = |at: usize| u16::from_le_bytes([short[at], short[at + 1]]);
        let mut longs = long.chunks_exact(8).map(|chunk| {
            chunk.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte))
        });
        let mut next = || longs.next().unwrap_or_default();
        let event = Moment { micros: next().cast_signed(), nanos: nanos(4) };
        let created = Moment { micros: next().cast_signed(), nanos: nanos(6) };
        let created = (created.nanos != NO_CREATED).then_some(created);
        let candidate = Candidate { event, created, row: next() };
        let key_len = u32::from_le_bytes([short[0], short[1], short[2], short[3]]) as usize;
        let (key, after) = rest.split_at_checked(key_len).ok_or_else(cut_short)?;
        take(key, candidate)?;
        bytes = after;
    }
    if bytes.is_empty() { Ok(()) } else { Err(cut_short()) }
}

#[cold]
fn cut_short() -> Error {
    Error::new(ErrorKind::Internal, "a block of keys and times is cut short")
}

/// A new file in the system's folder for temporary files, without a name.
fn unnamed_file() -> Result<File> {
    let file = tempfile::tempfile();
    file.map_err(|cause| no_room(0, cause))
}

#[cold]
fn no_room(written: u64, cause: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format!(
            "the keys and times of the source are more than memory is for, and can't be put on \
             disk in '{}' ({} MB were): make room there, name another folder in TMPDIR, or raise \
             `materialization: {{max_memory_mb}}`",
            std::env::temp_dir().display(),
            written >> 20
        ),
    )
    .with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_come_back_share_by_share_as_they_were() {
        let mut spill = Spill::new(1, 0).unwrap();
        let candidate = |row: u64| Candidate {
            event: Moment { micros: -(row as i64), nanos: row as u16 % 1000 },
            created: (!row.is_multiple_of(3)).then_some(Moment { micros: i64::MAX, nanos: 999 }),
            row: row << 33,
        };
        let key = |row: u64| vec![b'k'; row as usize % 40];
        // Enough for several blocks of the first share, and a single row of another.
        let hash = |row: u64| if row == 77 { 5 << 32 } else { 0 };
        (0..2_000).for_each(|row| spill.push(hash(row), &key(row), candidate(row)).unwrap());

        let mut shares: Vec<Vec<(Vec<u8>, Candidate)>> = Vec::new();
        spill
            .read(
                Vec::new,
                |share, key, candidate| {
                    share.push((key.to_vec(), candidate));
                    Ok(())
                },
                |share| {
                    shares.push(share);
                    Ok(())
                },
            )
            .unwrap();

        assert_eq!(shares[5], [(key(77), candidate(77))]);
        let first: Vec<_> =
            (0..2_000).filter(|&row| row != 77).map(|row| (key(row), candidate(row))).collect();
        assert_eq!(shares[0], first);
        assert_eq!(shares.len(), SHARES);
    }
}
