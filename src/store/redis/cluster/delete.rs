//! Deletion from a cluster: master after master. Keys that change their node meanwhile might be
//! missed, by the one not any more there, by the other not yet: so where slots are on their way,
//! all masters are gone through twice, each after each other; and where slots have changed
//! hands, anew.

use std::collections::VecDeque;

use super::super::connection::Connection;
use super::super::delete::Deleter;
use super::super::options::Address;
use super::attempts::Attempts;
use super::nodes::Cluster;
use super::own_slots::OwnSlots;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};

/// Passes over masters that all keep their slots, after which no key can have been missed.
const PASSES: u32 = 2;

impl Cluster {
    /// Deletes everything that `deleter` is about.
    pub(in super::super) fn delete(
        &self,
        deleter: &mut Deleter<'_>,
        call: &Call<'_>,
    ) -> Result<()> {
        let mut attempts = Attempts::new(self.options());
        let mut passes: Passes = None;
        loop {
            let error = match self.pass(&mut passes, deleter, call) {
                Ok(true) => return Ok(()),
                Ok(false) if passes.is_some() => continue,
                Ok(false) => Error::new(
                    ErrorKind::StoreUnavailable,
                    "slots of the cluster move all the time, so keys to be deleted may be missed",
                ),
                Err(error) => error,
            };
            let progress = usize::try_from(deleter.deleted()).unwrap_or(usize::MAX);
            match attempts.judge(error, progress, self.is_known())? {
                Some(error) => attempts.retry.pause(error, call)?,
                None => call.check()?,
            }
        }
    }

    /// One pass over all masters; whether it was enough.
    fn pass(
        &self,
        passes: &mut Passes,
        deleter: &mut Deleter<'_>,
        call: &Call<'_>,
    ) -> Result<bool> {
        let last = passes.take();
        let before = self.own_slots(call)?;
        for master in &before {
            deleter.set_asking(master.slots.is_importing());
            self.at(&master.address, call, |connection| deleter.run(connection, call))?;
        }
        let after = self.own_slots(call)?;
        let is_disturbed = deleter.take_disturbed();
        if !are_alike(&before, &after) {
            return Ok(false);
        }
        let is_moving = |masters: &[Master]| masters.iter().any(|master| master.slots.is_moving());
        if !is_disturbed && !is_moving(&before) && !is_moving(&after) {
            return Ok(true);
        }
        let done = match last {
            Some((masters, done)) if are_alike(&masters, &before) => done + 1,
            _ => 1,
        };
        *passes = Some((after, done));
        Ok(done >= PASSES)
    }

    /// What each master says of its slots; it knows before the others do. A master to which a
    /// slot is on its way is one, though it have none yet.
    fn own_slots(&self, call: &Call<'_>) -> Result<Vec<Master>> {
        self.refresh(call)?;
        let map = self.map(call)?;
        let mut left: VecDeque<Address> =
            map.shards().iter().map(|shard| shard.master.clone()).collect();
        let mut masters: Vec<Master> = Vec::new();
        while let Some(address) = left.pop_front() {
            if masters.iter().any(|master| master.address == address) {
                continue;
            }
            let ask = |connection: &mut Connection| OwnSlots::ask(connection, call);
            let slots = self.at(&address, call, ask)?;
            left.extend(slots.newcomers().iter().cloned());
            masters.push(Master { address, slots });
        }
        Ok(masters)
    }

    fn at<T>(
        &self,
        address: &Address,
        call: &Call<'_>,
        work: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        let pool = self.pool(address);
        let outcome = pool.take(call).and_then(|mut lease| {
            let outcome = work(&mut lease.connection);
            lease.give_back();
            outcome
        });
        outcome.inspect_err(|error| {
            self.failed(&pool, error);
        })
    }
}

/// Where slots are on their way: the masters of the last passes, and how many these were.
type Passes = Option<(Vec<Master>, u32)>;

struct Master {
    address: Address,
    slots: OwnSlots,
}

/// Whether both times the same masters had the same slots.
fn are_alike(before: &[Master], after: &[Master]) -> bool {
    let is_in = |master: &Master| {
        let same = after.iter().find(|other| other.address == master.address);
        same.is_some_and(|same| same.slots.has_same(&master.slots))
    };
    // A newcomer that was not told of before has no slots, and may have keys.
    before.len() == after.len() && before.iter().all(is_in)
}
