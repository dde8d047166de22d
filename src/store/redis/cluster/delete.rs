//! Deletion from a cluster: master after master. Keys that change their node meanwhile might be
//! missed, so a pass during which a slot moved is followed by another.

use super::super::delete::Deleter;
use super::attempts::Attempts;
use super::nodes::Cluster;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};

impl Cluster {
    /// Deletes everything that `deleter` is about.
    pub(in super::super) fn delete(
        &self,
        deleter: &mut Deleter<'_>,
        call: &Call<'_>,
    ) -> Result<()> {
        let mut attempts = Attempts::new(self.options());
        loop {
            let error = match self.pass(deleter, call) {
                Ok(true) => return Ok(()),
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

    /// One pass over all masters; whether no slot moved meanwhile.
    fn pass(&self, deleter: &mut Deleter<'_>, call: &Call<'_>) -> Result<bool> {
        self.refresh(call)?;
        let before = self.map(call)?;
        deleter.take_disturbed();
        for shard in before.shards() {
            let pool = self.pool(&shard.master);
            let outcome = pool.take(call).and_then(|mut lease| {
                let outcome = deleter.run(&mut lease.connection, call);
                lease.give_back();
                outcome
            });
            if let Err(error) = outcome {
                self.failed(&pool, &error);
                return Err(error);
            }
        }
        self.refresh(call)?;
        Ok(!deleter.take_disturbed() && self.map(call)?.is_served_alike(&before))
    }
}
