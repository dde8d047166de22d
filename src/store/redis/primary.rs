//! Where everything goes to one server: the only one, or the master that sentinels name. What
//! is tried again when a connection breaks or the server can't answer for the moment.

use std::sync::Arc;

use super::asynchronous::{self, Reason, Stop};
use super::delete::Deleter;
use super::options::{Address, Options};
use super::pool::Pool;
use super::reader::Reader;
use super::retry::Retry;
use super::sentinel::Sentinels;
use super::writer::Writer;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ConnectionCount, RowSink};

/// A server that can't be reached is tried so often; one that others may take over for, as
/// long as the time lasts.
pub(super) const MAX_CONNECTS: u32 = 4;

pub(super) enum Primary {
    /// A server that stands alone.
    Fixed(Arc<Pool>),
    /// The master that sentinels watch over.
    Watched(Sentinels),
}

impl Primary {
    fn options(&self) -> &Options {
        match self {
            Primary::Fixed(pool) => pool.options(),
            Primary::Watched(sentinels) => sentinels.options(),
        }
    }

    fn pool(&self, call: &Call<'_>) -> Result<Arc<Pool>> {
        match self {
            Primary::Fixed(pool) => Ok(pool.clone()),
            Primary::Watched(sentinels) => sentinels.master(call),
        }
    }

    /// The server that takes writes now; sentinels are asked for it.
    pub(super) fn current(&self, call: &Call<'_>) -> Result<Arc<Pool>> {
        let mut retry = Retry::new(self.options().io_timeout);
        loop {
            let outcome = match self {
                Primary::Fixed(pool) => Ok(pool.clone()),
                Primary::Watched(sentinels) => sentinels.current_master(call),
            };
            match outcome {
                Ok(pool) => return Ok(pool),
                Err(error) => retry.pause(error, call)?,
            }
        }
    }

    /// After a connection broke, or the server said that it is the wrong one.
    fn doubt(&self, pool: &Arc<Pool>) {
        pool.close_idle();
        if let Primary::Watched(sentinels) = self {
            sentinels.doubt(pool);
        }
    }

    /// Reads all that is left to read.
    pub(super) fn read(
        &self,
        reader: &mut Reader<'_>,
        sink: &mut dyn RowSink,
        call: &Call<'_>,
    ) -> Result<()> {
        let mut retry = Retry::new(self.options().io_timeout);
        let mut may_be_late = self.options().retry_on_timeout;
        loop {
            let Err(failure) = self.try_read(reader, sink, call) else { return Ok(()) };
            reader.resume();
            if failure.kind() == ErrorKind::StoreTimeout && std::mem::take(&mut may_be_late) {
                call.check()?;
                continue;
            }
            if failure.is_unreachable && self.is_given_up(&retry) {
                return Err(failure.error);
            }
            retry.pause(failure.error, call)?;
        }
    }

    fn try_read(
        &self,
        reader: &mut Reader<'_>,
        sink: &mut dyn RowSink,
        call: &Call<'_>,
    ) -> std::result::Result<(), Failure> {
        let pool = self.pool(call).map_err(Failure::unreachable)?;
        let mut lease = pool.take(call).map_err(|error| self.failed(&pool, error, true))?;
        let outcome = reader.run(&mut lease.connection, pool.node(), sink, call);
        let is_unreachable = !lease.connection.has_answered();
        lease.give_back();
        outcome.map_err(|error| self.failed(&pool, error, is_unreachable))
    }

    /// Reads all that is left to read, awaited.
    pub(super) async fn read_async(&self, reader: &mut asynchronous::Reader<'_>) -> Result<()> {
        let mut retry = Retry::new(self.options().io_timeout);
        let mut may_be_late = self.options().retry_on_timeout;
        loop {
            let Err(failure) = self.try_read_async(reader).await else { return Ok(()) };
            if failure.kind() == ErrorKind::StoreTimeout && std::mem::take(&mut may_be_late) {
                continue;
            }
            if failure.is_unreachable && self.is_given_up(&retry) {
                return Err(failure.error);
            }
            retry.pause_async(failure.error).await?;
        }
    }

    async fn try_read_async(
        &self,
        reader: &mut asynchronous::Reader<'_>,
    ) -> std::result::Result<(), Failure> {
        let pool = match self {
            Primary::Fixed(pool) => pool.clone(),
            Primary::Watched(sentinels) => {
                sentinels.master_async().await.map_err(Failure::unreachable)?
            }
        };
        reader.read(&pool).await.map_err(|stop| match stop {
            Stop::Failure(failure) => {
                let is_unreachable = failure.reason == Reason::Unreachable;
                self.failed(&pool, failure.into(), is_unreachable)
            }
            Stop::Error(error) => self.failed(&pool, error, false),
        })
    }

    /// Begins to connect, so that the first asynchronous read need not.
    pub(super) fn open(&self) -> Result<()> {
        match self {
            Primary::Fixed(pool) => pool.asynchronous().open(pool.target()),
            Primary::Watched(_) => Ok(()),
        }
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> ConnectionCount {
        match self {
            Primary::Fixed(pool) => pool.connections(),
            Primary::Watched(sentinels) => sentinels.connections(),
        }
    }

    /// Closes all connections that nobody uses at the moment.
    pub(super) fn close(&self) {
        match self {
            Primary::Fixed(pool) => pool.close(),
            Primary::Watched(sentinels) => sentinels.close(),
        }
    }

    /// Writes all that is left to write. What was under way when a connection broke is compared
    /// before it is written again.
    pub(super) fn write(&self, writer: &mut Writer<'_>, call: &Call<'_>) -> Result<()> {
        let mut retry = Retry::new(self.options().io_timeout);
        let (mut acknowledged, mut master) = (writer.report(), None);
        loop {
            let Err(failure) = self.try_write(writer, &mut master, call) else { return Ok(()) };
            writer.resume();
            if writer.report() != acknowledged {
                // It goes on, though with interruptions.
                acknowledged = writer.report();
                retry = Retry::new(self.options().io_timeout);
            }
            if failure.is_unreachable && self.is_given_up(&retry) {
                return Err(failure.error);
            }
            retry.pause(failure.error, call)?;
        }
    }

    fn try_write(
        &self,
        writer: &mut Writer<'_>,
        master: &mut Option<Address>,
        call: &Call<'_>,
    ) -> std::result::Result<(), Failure> {
        let pool = self.pool(call).map_err(Failure::unreachable)?;
        let last = master.replace(pool.address().clone());
        if last.is_some_and(|last| last != *pool.address()) {
            writer.begin_again();
        }
        let mut lease = pool.take(call).map_err(|error| self.failed(&pool, error, true))?;
        let outcome = writer.run(&mut lease.connection, call);
        let is_unreachable = !lease.connection.has_answered();
        lease.give_back();
        outcome.map_err(|error| self.failed(&pool, error, is_unreachable))
    }

    /// Deletes everything that `deleter` is about; from the beginning where a connection broke.
    pub(super) fn delete(&self, deleter: &mut Deleter<'_>, call: &Call<'_>) -> Result<()> {
        let mut retry = Retry::new(self.options().io_timeout);
        let mut deleted = deleter.deleted();
        loop {
            let Err(failure) = self.try_delete(deleter, call) else { return Ok(()) };
            if deleter.deleted() != deleted {
                deleted = deleter.deleted();
                retry = Retry::new(self.options().io_timeout);
            }
            if failure.is_unreachable && self.is_given_up(&retry) {
                return Err(failure.error);
            }
            retry.pause(failure.error, call)?;
        }
    }

    fn try_delete(
        &self,
        deleter: &mut Deleter<'_>,
        call: &Call<'_>,
    ) -> std::result::Result<(), Failure> {
        let pool = self.pool(call).map_err(Failure::unreachable)?;
        let mut lease = pool.take(call).map_err(|error| self.failed(&pool, error, true))?;
        let outcome = deleter.run(&mut lease.connection, call);
        let is_unreachable = !lease.connection.has_answered();
        lease.give_back();
        outcome.map_err(|error| self.failed(&pool, error, is_unreachable))
    }

    fn is_given_up(&self, retry: &Retry) -> bool {
        matches!(self, Primary::Fixed(_)) && retry.failures() + 1 >= MAX_CONNECTS
    }

    #[cold]
    fn failed(&self, pool: &Arc<Pool>, error: Error, is_unreachable: bool) -> Failure {
        if matches!(error.kind(), ErrorKind::StoreUnavailable | ErrorKind::StoreTimeout) {
            self.doubt(pool);
        }
        Failure { error, is_unreachable }
    }
}

/// Why an attempt failed.
struct Failure {
    error: Error,
    /// No connection came about, or none that was ever answered.
    is_unreachable: bool,
}

impl Failure {
    fn unreachable(error: Error) -> Self {
        Failure { error, is_unreachable: true }
    }

    fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}
