//! Online stores: where materialized rows live. One trait, [`OnlineStore`], over Redis and
//! SQLite; what is read and written is the same, so everything above is written once.
//!
//! Stores move bytes. They must not know feature services, requests, Arrow or types: keys
//! come encoded, values come and go as serialized `feast.types.Value`.

mod open;
pub mod redis;
pub mod sqlite;

pub use open::open;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use crate::call::{Call, Uninterrupted};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyShape;
use crate::runtime;
use crate::value::PackedBytes;

/// A feature view as a store knows it: names, and what is derived from names.
#[derive(Clone, Debug)]
pub struct StoredView {
    /// The view's name, with the suffix `_vN` where the registry versions online views.
    pub name: String,
    /// Features in the order in which values are given and taken.
    pub features: Vec<StoredFeature>,
    /// Redis: the field of the event timestamp, `_ts:<name>`.
    pub timestamp_field: Vec<u8>,
    /// How long after its event timestamp a row is worth keeping, microseconds, where it is
    /// written with `field_ttl`. `None`: for ever.
    pub ttl_micros: Option<i64>,
}

/// A feature of a [`StoredView`].
#[derive(Clone, Debug)]
pub struct StoredFeature {
    /// The feature's name, as the registry has it.
    pub name: String,
    /// Redis: the field of the value, murmur3-32 of `<view>:<feature>`, little endian.
    pub field: [u8; 4],
}

/// Views that are read for the same entities. In Redis each entity is one hash, so a group
/// costs one command for each key.
#[derive(Clone, Debug)]
pub struct StoredGroup {
    /// The views, each with the features to read.
    pub views: Vec<StoredView>,
    /// How many fields the whole hash of an entity is expected to have: all features of all
    /// views with these join keys, and a timestamp for each view.
    pub expected_fields: usize,
}

/// Takes what a store found. Called once for each (group, view, key), and for each group and
/// view in the order of the keys.
pub trait RowSink {
    /// The row of one view for one entity. `event_timestamp` is microseconds since the epoch,
    /// UTC; `None` means that the store has no row, and then all `values` are `None`.
    /// `values` are serialized `feast.types.Value` in the order of the view's features;
    /// `None` is a feature that is not there, an empty slice one that was stored as null.
    fn row(
        &mut self,
        group: usize,
        view: usize,
        event_timestamp: Option<i64>,
        values: &[Option<&[u8]>],
    ) -> Result<()>;
}

/// Rows of one view on their way to a store. Entity keys are unique within a batch.
pub struct WriteBatch<'a> {
    /// The view, with the features in the order of `values`.
    pub view: &'a StoredView,
    /// Encoded entity keys, without the project.
    pub keys: &'a PackedBytes,
    /// For each row, microseconds since the epoch, UTC.
    pub event_timestamps: &'a [i64],
    /// For each row, microseconds since the epoch, UTC. `None`: the source has no such
    /// column. Only SQLite keeps it.
    pub created_timestamps: Option<&'a [Option<i64>]>,
    /// For each feature, the serialized `feast.types.Value` of each row; empty is null.
    pub values: &'a [PackedBytes],
}

impl WriteBatch<'_> {
    /// Errors: [`ErrorKind::Internal`], its columns are not equally long.
    fn check_shape(&self) -> Result<()> {
        let rows = self.keys.len();
        let is_square = self.event_timestamps.len() == rows
            && self.created_timestamps.is_none_or(|created| created.len() == rows)
            && self.values.len() == self.view.features.len()
            && self.values.iter().all(|values| values.len() == rows);
        match is_square {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Internal,
                format!("a batch of view '{}' has columns of unequal length", self.view.name),
            )),
        }
    }
}

/// What became of a [`WriteBatch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteReport {
    /// Rows that the store now holds.
    pub written: u64,
    /// Rows left out because the store holds a newer one (or, with `equal_timestamps: skip`,
    /// one of the same time).
    pub older: u64,
}

/// What happens to a row whose event timestamp equals the stored one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EqualTimestamps {
    /// The row that arrives last stays, so that corrections land.
    #[default]
    Overwrite,
    /// The row that is there stays, as in Feast.
    Skip,
}

/// A view whose rows are to be deleted.
#[derive(Clone, Debug)]
pub struct DeletedView {
    /// The view, with all features that may have been written.
    pub stored: StoredView,
    /// What its entity keys look like.
    pub keys: KeyShape,
}

/// What is deleted of entities that have rows of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The rows of the views; rows that other views have for the same entities stay.
    Rows,
    /// All rows of all entities with the join keys of the views.
    Entities,
}

/// Connections to an online store, of all its servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCount {
    /// Those that somebody uses at the moment; one that many reads share counts once, always.
    pub in_use: usize,
    /// Those that wait for the next call.
    pub idle: usize,
}

impl std::iter::Sum for ConnectionCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(ConnectionCount::default(), |sum, one| ConnectionCount {
            in_use: sum.in_use + one.in_use,
            idle: sum.idle + one.idle,
        })
    }
}

/// Where online rows are read and written. Calls block, unless their names end in `_async`;
/// many threads may call at once.
pub trait OnlineStore: Send + Sync {
    /// Prepares the reading of `groups`: what does not depend on the entities is done here,
    /// once. Does not connect.
    fn reader(&self, groups: &[StoredGroup]) -> Arc<dyn StoreReader>;

    /// Writes a batch; for each entity the newest event timestamp wins, atomically. When it
    /// returns `Ok`, every row has been acknowledged by the store.
    fn write(&self, batch: &WriteBatch<'_>, call: &Call<'_>) -> Result<WriteReport>;

    /// Begins to watch over what [`write`](Self::write) acknowledges from now on: for those who
    /// vouch for many writes at once.
    fn watch(&self, call: &Call<'_>) -> Result<Box<dyn WriteWatch + '_>> {
        call.check()?;
        Ok(Box::new(Lasting))
    }

    /// Deletes rows of `views`, of this project and no other; those that are written meanwhile
    /// may stay. Takes bounded memory, and steps that are small for a server that others use.
    /// Returns how many entities (SQLite: views) had something to be deleted. Interrupted, or
    /// after an error, it has done a part; called again, it does the rest.
    fn delete(&self, views: &[DeletedView], scope: Scope, call: &Call<'_>) -> Result<u64>;

    /// Makes what the views need before they are first written (SQLite: tables).
    fn prepare(&self, views: &[StoredView], call: &Call<'_>) -> Result<()>;

    /// An event timestamp, microseconds since the epoch, as the store gives it back: as fine as it
    /// keeps times.
    fn kept_time(&self, micros: i64) -> i64 {
        micros
    }

    /// Begins to connect, so that the first asynchronous read need not. Does not wait.
    fn open(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it answers, by `deadline`: an entity that is not there is read, as any other
    /// would be. Awaited on the [`runtime`].
    fn ping(&self, deadline: Instant) -> Reading<'_> {
        let reader = self.reader(&[nothing()]);
        Box::pin(async move {
            let mut keys = PackedBytes::default();
            keys.push(b"feastrs:ping:");
            reader.read_async(&[keys], &mut Ignored, Some(deadline)).await
        })
    }

    /// How many connections this process has open; `None`: the store has none.
    fn connections(&self) -> Option<ConnectionCount> {
        None
    }

    /// Closes what this process has open and does not use. The next call opens it again.
    fn close(&self) {}
}

/// A view that nobody has.
fn nothing() -> StoredGroup {
    let name = "feastrs:ping".to_owned();
    let feature = StoredFeature { name: name.clone(), field: [0; 4] };
    let timestamp_field = format!("_ts:{name}").into_bytes();
    let view = StoredView { name, features: vec![feature], timestamp_field, ttl_micros: None };
    StoredGroup { views: vec![view], expected_fields: 2 }
}

/// Takes rows that nobody wants.
struct Ignored;

impl RowSink for Ignored {
    fn row(&mut self, _: usize, _: usize, _: Option<i64>, _: &[Option<&[u8]>]) -> Result<()> {
        Ok(())
    }
}

/// Watches over rows that a store has acknowledged.
pub trait WriteWatch {
    /// Succeeds if, as far as the store can tell, all of them are still there, and with more
    /// than one server where there are replicas.
    ///
    /// Errors: [`ErrorKind::StoreUnavailable`](crate::ErrorKind::StoreUnavailable) where a server
    /// was restarted or replaced meanwhile: rows may be lost, and have to be written again.
    fn confirm(&self, call: &Call<'_>) -> Result<()>;
}

/// What is acknowledged stays.
struct Lasting;

impl WriteWatch for Lasting {
    fn confirm(&self, _call: &Call<'_>) -> Result<()> {
        Ok(())
    }
}

/// An asynchronous read on its way. Dropped, it stops.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Reads what it was prepared for, for any entities. Many threads may call at once.
pub trait StoreReader: Send + Sync {
    /// Reads every view of every group for every key, and gives the rows to `sink`. `keys[g]`
    /// are the encoded entity keys of group `g`, each once, without the project.
    fn read(&self, keys: &[PackedBytes], sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()>;

    /// The same, awaited on the [`runtime`]; everything is over by `deadline`, if there is one.
    /// A store that has no driver of its own for it reads as [`read`](Self::read) does.
    fn read_async<'a>(
        &'a self,
        keys: &'a [PackedBytes],
        sink: &'a mut (dyn RowSink + Send),
        deadline: Option<Instant>,
    ) -> Reading<'a> {
        Box::pin(async move {
            let call = Call { deadline, interrupt: &Uninterrupted };
            runtime::block(|| self.read(keys, sink, &call)).await?
        })
    }
}
