//! The two passes over a view's source: which rows win, then those rows to the writers. Where it
//! can be told which part of the source is newest, and memory allows it, the second pass begins
//! with that part while the first is still among older ones. Must not know the store.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::decide::{Decision, FirstPass, Give, Winners, decide};
use super::plan::ViewPlan;
use super::transfer::{Chunk, Reader};
use super::workers::{StopFlag, finished, spawn_named, stopped};
use crate::call::Call;
use crate::error::{ErrorKind, Result};
use crate::offline::{Decider, Part, RowSet, Scan, parts_by_time};

/// No batch in flight is larger than this, however much memory there is.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// Batches that may be in memory at once: being read, waiting, being encoded and written.
const BATCHES_IN_FLIGHT: usize = 16;

/// What both passes need.
pub(super) struct Passes<'a> {
    pub plan: &'a ViewPlan,
    /// For the table of entities and the batches, bytes.
    pub memory: usize,
    /// Rows in one write, about.
    pub write_rows: usize,
    /// Rows with a null key are left out instead of failing.
    pub skip_null_keys: bool,
    /// Counts the rows that the first pass has come by.
    pub searched: &'a AtomicU64,
    pub stop: &'a StopFlag<'a>,
    pub call: &'a Call<'a>,
}

impl Passes<'_> {
    /// Reads the source to the end, or until a writer has gone.
    pub fn run(&self, writers: Vec<SyncSender<Chunk>>) -> Result<Decision> {
        let head = self.page_bytes(&self.plan.head);
        let all = self.page_bytes(&self.plan.all_columns());
        let winners = RowSet::bytes(self.plan.source.rows());
        // Those that are transferred, those that wait for it, those that are being told.
        let both = head + all + 3 * winners;
        let reader =
            |held| Reader::new(self.plan, writers, self.batch_bytes(held), self.write_rows);
        let parts = if both <= self.memory / 4 { self.parts()? } else { Vec::new() };
        match parts.len() > 1 {
            true => self.part_by_part(&parts, both, reader(both)),
            false => self.in_turn(head + winners, reader(all + winners)),
        }
    }

    /// What is read in turn; nothing: the source as it is.
    fn parts(&self) -> Result<Vec<Part>> {
        let plan = self.plan;
        // Nothing is written before it is known that every row has a key, if it must have one.
        match self.skip_null_keys || plan.has_no_null_keys() {
            true => parts_by_time(&plan.source, plan.event_column(), plan.window, self.call),
            false => Ok(Vec::new()),
        }
    }

    /// What a pass over these columns holds of files.
    fn page_bytes(&self, columns: &[String]) -> usize {
        let source = &self.plan.source;
        Scan { source, columns, window: None, keys: &[], rows: None, batch_bytes: 0 }.page_bytes()
    }

    /// What is for the table, and again for all batches, where so many bytes are `held` besides.
    fn half_of_rest(&self, held: usize) -> usize {
        self.memory.saturating_sub(held).max(self.memory / 4) / 2
    }

    fn batch_bytes(&self, held: usize) -> usize {
        (self.half_of_rest(held) / BATCHES_IN_FLIGHT).min(MAX_BATCH_BYTES)
    }

    /// One pass after the other.
    fn in_turn(&self, held: usize, mut reader: Reader<'_>) -> Result<Decision> {
        let mut found = Vec::new();
        let decision = self.decide(&[], held, &mut |winners| {
            found.push(winners);
            Ok(())
        })?;
        for Winners { rows, part } in found {
            reader.transfer(&rows, part.as_ref(), self.call)?;
        }
        reader.finish()?;
        Ok(decision)
    }

    /// The second pass follows the first.
    fn part_by_part(
        &self,
        parts: &[Part],
        held: usize,
        mut reader: Reader<'_>,
    ) -> Result<Decision> {
        let (decided, transferred) = thread::scope(|scope| {
            // While one part is transferred, the next is decided, and no more.
            let (send, receive) = sync_channel(0);
            let search = spawn_named(scope, "feastrs-search", move || {
                let mut give = |winners| send.send(winners).map_err(|_| stopped());
                self.stop.guard(|| self.decide(parts, held, &mut give))
            });
            let mut found = receive.into_iter();
            let mut transfer =
                |Winners { rows, part }: Winners| reader.transfer(&rows, part.as_ref(), self.call);
            let transferred = self.stop.guard(|| found.try_for_each(&mut transfer));
            drop(found);
            (search.and_then(finished), transferred)
        });
        match (decided, transferred) {
            (Err(error), Err(other)) if error.kind() == ErrorKind::Interrupted => Err(other),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(decision), Ok(())) => reader.finish().map(|()| decision),
        }
    }

    fn decide(&self, parts: &[Part], held: usize, winners: &mut Give<'_>) -> Result<Decision> {
        let pass = FirstPass {
            plan: self.plan,
            parts,
            batch_bytes: self.batch_bytes(held),
            counts: &|event| self.plan.window.contains(event),
            searched: self.searched,
        };
        let decider = Decider::for_rows(self.half_of_rest(held), self.plan.source.rows());
        decide(pass, decider, self.skip_null_keys, winners, self.call)
    }
}
