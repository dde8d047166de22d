//! Views, rows and a sink for the tests of the stores, kept plain: values are any bytes.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};

use feastrs::call::Call;
use feastrs::store::{
    OnlineStore, RowSink, StoredFeature, StoredGroup, StoredView, WriteBatch, WriteReport,
};
use feastrs::value::PackedBytes;
use feastrs::{Error, ErrorKind, Result, runtime};

/// What was read of one view for one entity.
pub type Row = (Option<i64>, Vec<Option<Vec<u8>>>);

/// A view with features `f0`, `f1`, …, whose Redis fields are made up but distinct.
pub fn view(name: &str, features: usize) -> StoredView {
    let salt = name
        .bytes()
        .fold(0x811c_9dc5, |salt: u32, byte| (salt ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let feature = |index: usize| StoredFeature {
        name: format!("f{index}"),
        field: (salt ^ (index as u32).wrapping_mul(0x9e37_79b1)).to_le_bytes(),
    };
    StoredView {
        ttl_micros: None,
        name: name.to_owned(),
        features: (0..features).map(feature).collect(),
        timestamp_field: format!("_ts:{name}").into_bytes(),
    }
}

/// Byte strings, packed.
pub fn packed<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> PackedBytes {
    let mut packed = PackedBytes::default();
    items.into_iter().for_each(|item| packed.push(item.as_ref()));
    packed
}

/// A serialized `Value` of a string.
pub fn text(text: &str) -> Vec<u8> {
    let mut value = vec![0x12, u8::try_from(text.len()).expect("a short text")];
    value.extend_from_slice(text.as_bytes());
    value
}

/// Writes `value` into every feature of every key, all at `micros`.
pub fn write(
    store: &dyn OnlineStore,
    view: &StoredView,
    keys: &[&str],
    micros: i64,
    value: &[u8],
) -> Result<WriteReport> {
    let column = packed(keys.iter().map(|_| value));
    let batch = WriteBatch {
        view,
        keys: &packed(keys),
        event_timestamps: &vec![micros; keys.len()],
        created_timestamps: None,
        values: &vec![column; view.features.len()],
    };
    store.write(&batch, &Call::unlimited())
}

/// Reads one group, and gives for each view the rows in the order of the keys. It is read
/// twice: an asynchronous read must end as a blocking one does.
pub fn read(
    store: &dyn OnlineStore,
    views: &[StoredView],
    keys: &[&str],
    expected_fields: usize,
) -> Result<Vec<Vec<Row>>> {
    let outcome = read_blocking(store, views, keys, expected_fields);
    let asynchronous = read_async(store, views, keys, expected_fields);
    match (&outcome, &asynchronous) {
        (Ok(rows), Ok(others)) => assert!(rows == others, "{rows:?} {others:?}"),
        (Err(error), Err(other)) => assert_eq!(error.kind(), other.kind(), "{error}; {other}"),
        _ => panic!("{outcome:?}, asynchronous: {asynchronous:?}"),
    }
    outcome
}

/// The same with the blocking read alone.
pub fn read_blocking(
    store: &dyn OnlineStore,
    views: &[StoredView],
    keys: &[&str],
    expected_fields: usize,
) -> Result<Vec<Vec<Row>>> {
    let reader = store.reader(&[StoredGroup { views: views.to_vec(), expected_fields }]);
    let mut rows = Rows::default();
    reader.read(&[packed(keys)], &mut rows, &Call::unlimited())?;
    Ok(rows.of_views(views.len()))
}

/// The same with the asynchronous read alone.
pub fn read_async(
    store: &dyn OnlineStore,
    views: &[StoredView],
    keys: &[&str],
    expected_fields: usize,
) -> Result<Vec<Vec<Row>>> {
    let reader = store.reader(&[StoredGroup { views: views.to_vec(), expected_fields }]);
    let mut rows = Rows::default();
    let keys = [packed(keys)];
    runtime::handle()?.block_on(reader.read_async(&keys, &mut rows, None))?;
    Ok(rows.of_views(views.len()))
}

/// Collects rows by group and view.
#[derive(Default)]
pub struct Rows(pub BTreeMap<(usize, usize), Vec<Row>>);

impl Rows {
    fn of_views(mut self, views: usize) -> Vec<Vec<Row>> {
        (0..views).map(|view| self.0.remove(&(0, view)).unwrap_or_default()).collect()
    }
}

impl RowSink for Rows {
    fn row(
        &mut self,
        group: usize,
        view: usize,
        event_timestamp: Option<i64>,
        values: &[Option<&[u8]>],
    ) -> Result<()> {
        let values = values.iter().map(|value| value.map(<[u8]>::to_vec)).collect();
        self.0.entry((group, view)).or_default().push((event_timestamp, values));
        Ok(())
    }
}

/// Reads with a sink that refuses the row after `after` rows, and again with one that panics
/// there: with replies of later keys under way. Blocking, then asynchronously.
pub fn end_read(store: &dyn OnlineStore, view: &StoredView, keys: &[String], after: usize) {
    struct Ending {
        left: usize,
        panics: bool,
    }
    impl RowSink for Ending {
        fn row(&mut self, _: usize, _: usize, _: Option<i64>, _: &[Option<&[u8]>]) -> Result<()> {
            match self.left.checked_sub(1) {
                Some(left) => self.left = left,
                None if self.panics => panic!("as the test wants it"),
                None => return Err(Error::new(ErrorKind::InvalidArgument, "enough")),
            }
            Ok(())
        }
    }
    let group = StoredGroup { views: vec![view.clone()], expected_fields: 3 };
    let reader = store.reader(&[group]);
    let (keys, handle) = ([packed(keys)], runtime::handle().expect("a runtime"));
    for (panics, is_async) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut ending = Ending { left: after, panics };
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| match is_async {
            true => handle.block_on(reader.read_async(&keys, &mut ending, None)),
            false => reader.read(&keys, &mut ending, &Call::unlimited()),
        }));
        match outcome {
            Ok(read) => assert_eq!(read.unwrap_err().kind(), ErrorKind::InvalidArgument),
            Err(_) => assert!(panics),
        }
    }
}
