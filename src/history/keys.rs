//! The labels' side of the join: their keys numbered and their times in order, once for all
//! views that have the same join keys.

use std::sync::Arc;

use arrow_array::ArrayRef;

use super::labels::Labels;
use super::plan::HistoryView;
use crate::error::Result;
use crate::offline::ScanKey;
use crate::offline::asof::{KeyForm, KeyTable, KeyValues, Timeline};

/// Labels as a view sees them.
#[derive(Clone)]
pub(super) struct KeySet {
    columns: Vec<(String, KeyForm)>,
    pub table: Arc<KeyTable>,
    pub timeline: Arc<Timeline>,
}

/// The key sets of a join.
#[derive(Default)]
pub(super) struct KeySets(Vec<KeySet>);

impl KeySets {
    /// The labels by the join keys of `view`, compared in `forms`.
    pub fn of(&mut self, view: &HistoryView, forms: &[KeyForm], labels: &Labels) -> Result<KeySet> {
        let names = view.join_keys.iter().map(|key| key.label_column.clone());
        let columns: Vec<(String, KeyForm)> = names.zip(forms.iter().copied()).collect();
        if let Some(known) = self.0.iter().find(|known| known.columns == columns) {
            return Ok(known.clone());
        }
        let values = columns.iter().map(|(name, form)| form.read(labels.column(name)?, name));
        let values = values.collect::<Result<Vec<_>>>()?;
        let (table, ids) = KeyTable::number(&values, labels.len());
        let timeline = Timeline::new(&ids, table.len(), &labels.times);
        let set = KeySet { columns, table: Arc::new(table), timeline: Arc::new(timeline) };
        self.0.push(set.clone());
        Ok(set)
    }
}

impl KeySet {
    /// What a scan may know of the keys that labels have; `columns` begins with the names of the
    /// join keys in the source.
    pub fn scan_keys(&self, columns: &[String]) -> Vec<ScanKey> {
        let keys = self.columns.iter().zip(columns).zip(&self.table.bounds);
        let known = keys.filter_map(|(((_, form), column), bounds)| {
            Some(ScanKey { column: column.clone(), form: *form, bounds: bounds.clone()? })
        });
        known.collect()
    }

    /// The keys of feature rows, as numbers; `columns` are those of the join keys.
    pub fn find(&self, columns: &[ArrayRef], rows: usize, ids: &mut Vec<u32>) -> Result<()> {
        let values =
            self.columns.iter().zip(columns).map(|((name, form), array)| form.read(array, name));
        let values: Vec<KeyValues> = values.collect::<Result<_>>()?;
        self.table.find(&values, rows, ids);
        Ok(())
    }
}
