//! The rows of a pinned source, batch by batch: only the columns and row groups that are
//! needed, each row with its number in the whole source, so that a second scan can go
//! straight to chosen rows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::asof::{KeyBounds, KeyForm};
use super::listing::FolderValue;
use super::parts::Part;
use super::row_set::RowSet;
use super::source::{OpenFile, PinnedFile, SourceFiles};
use super::timestamps::{TimeWindow, Timestamps};
use crate::error::{Error, ErrorKind, Result};

/// No batch has more rows than this: enough to work column by column.
const MAX_BATCH_ROWS: usize = 8_192;
/// Rows in the first batch of columns whose size in memory the footer does not tell.
const PROBE_ROWS: usize = 256;
/// So many row groups of files that are far away are on their way at once, at most.
const MAX_OPENED: usize = 8;
/// The size of pages and dictionaries that writers keep to.
const PAGE_BYTES: usize = 1 << 20;
/// Losing rows are decoded with their neighbours unless a whole block of them can be skipped:
/// skipping row by row costs more than it saves.
const SKIP_BLOCK_ROWS: u64 = 1_024;

/// What to read of a source.
#[derive(Clone, Copy)]
pub struct Scan<'a> {
    /// The source.
    pub source: &'a SourceFiles,
    /// Names of the columns, as the source has them, in the order in which batches have them.
    pub columns: &'a [String],
    /// The timestamp column by whose statistics row groups outside the window are skipped.
    pub window: Option<(&'a str, TimeWindow)>,
    /// Columns, and between which values their rows have to be: row groups whose statistics say
    /// that none is are skipped.
    pub keys: &'a [ScanKey],
    /// Only blocks with at least one of these rows are read. `None`: all rows.
    pub rows: Option<&'a RowSet>,
    /// The size in memory that batches should stay near.
    pub batch_bytes: usize,
}

/// What is known of the keys that a scan is for, in one column.
#[derive(Clone, Debug)]
pub struct ScanKey {
    /// The column.
    pub column: String,
    /// How its values are compared.
    pub form: KeyForm,
    /// Between which they lie.
    pub bounds: KeyBounds,
}

/// Takes the batches of a scan.
pub type Take<'t> = dyn FnMut(ScanBatch) -> Result<()> + 't;

/// Some rows of a source.
pub struct ScanBatch {
    /// One array for each column of the scan.
    pub columns: Vec<ArrayRef>,
    /// Numbers of the rows within the source, in order; together as many as rows.
    pub positions: Vec<Range<u64>>,
    /// The number of the first row that was to be looked at in their row group.
    pub group_start: u64,
}

impl ScanBatch {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.positions.iter().map(|range| (range.end - range.start) as usize).sum()
    }

    /// The number of each row within the source.
    pub fn row_numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.positions.iter().flat_map(|range| range.clone())
    }
}

impl<'a> Scan<'a> {
    /// Gives each batch to `take`, in the order of the rows, until it fails. Each
    /// file is compared with what was pinned before it is read and when it has been.
    pub fn run(&self, take: &mut Take<'_>) -> Result<()> {
        let files = self.source.files().iter();
        self.run_groups(files.flat_map(|pinned| flat(self.spans(pinned, |_, rows| rows))), take)
    }

    /// The same for one part of the source.
    pub fn run_part(&self, part: &Part, take: &mut Take<'_>) -> Result<()> {
        let files = self.source.files().iter().enumerate().filter(|(file, _)| part.has_file(*file));
        let groups = files.flat_map(|(file, pinned)| flat(self.spans_of(part, file, pinned)));
        self.run_groups(groups, take)
    }

    /// How many rows of the source [`Scan::run_part`] would read.
    pub(super) fn part_rows(&self, part: &Part) -> u64 {
        let files = self.source.files().iter().enumerate().filter(|(file, _)| part.has_file(*file));
        let groups = files.flat_map(|(file, pinned)| flat(self.spans_of(part, file, pinned)));
        groups.flatten().map(|group| group.rows()).sum()
    }

    fn run_groups(
        &self,
        groups: impl Iterator<Item = Result<ScanGroup<'a>>>,
        take: &mut Take<'_>,
    ) -> Result<()> {
        // Bytes a row, as learned from the rows so far.
        let mut learned = None;
        let mut groups = groups.peekable();
        let mut opened: VecDeque<Opened<'a>> = VecDeque::new();
        loop {
            // What is far away comes while what is before it is decoded.
            let mut coming: u64 = opened.iter().map(|next| next.coming).sum();
            let budget = self.file_budget();
            while let Some(group) = groups.next_if(|group| match group {
                Ok(group) if group.pinned.is_far() => {
                    opened.len() < MAX_OPENED && (opened.is_empty() || coming < budget)
                }
                _ => opened.is_empty(),
            }) {
                let next = self.open(group?)?;
                coming += next.coming;
                opened.push_back(next);
            }
            let Some(next) = opened.pop_front() else { return Ok(()) };
            self.read(next, &mut learned, take)?;
        }
    }

    /// The row groups that [`Scan::run`] would read, in order: to be read by several at once.
    pub fn groups(&self) -> Result<Vec<ScanGroup<'a>>> {
        let files = self.source.files().iter().map(|pinned| self.spans(pinned, |_, rows| rows));
        Ok(files.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Gives each batch of one row group to `take`, as [`Scan::run`] does.
    pub fn run_group(&self, group: ScanGroup<'a>, take: &mut Take<'_>) -> Result<()> {
        self.read(self.open(group)?, &mut None, take)
    }

    fn read(
        &self,
        opened: Opened<'a>,
        learned: &mut Option<usize>,
        take: &mut Take<'_>,
    ) -> Result<()> {
        let Opened { group, file, .. } = opened;
        let pinned = group.pinned;
        let mut reader = GroupReader { scan: self, pinned, file: &file, learned: *learned };
        reader.read(group, take)?;
        *learned = reader.learned;
        pinned.verify(&file)
    }

    /// Bytes of one file that are to be at hand.
    fn file_budget(&self) -> u64 {
        self.batch_bytes as u64 * 2
    }

    fn open(&self, group: ScanGroup<'a>) -> Result<Opened<'a>> {
        let pinned = group.pinned;
        let metadata = pinned.metadata.metadata().row_group(group.index);
        let wanted = metadata.columns().iter().filter(|chunk| self.wants(chunk)).map(|chunk| {
            let (start, length) = chunk.byte_range();
            start..start + length
        });
        let wanted: Vec<Range<u64>> = wanted.collect();
        let bytes: u64 = wanted.iter().map(|range| range.end - range.start).sum();
        let file = pinned.open(&wanted, self.file_budget())?;
        Ok(Opened { group, file, coming: bytes.min(self.file_budget()) })
    }

    /// What decoding holds besides the batches, about: of each column a page and a dictionary.
    pub fn page_bytes(&self) -> usize {
        let of_file = |file: &PinnedFile| {
            let groups = file.metadata.metadata().row_groups();
            let columns = groups.first().map_or(&[][..], |group| group.columns());
            let wanted: Vec<usize> =
                (0..columns.len()).filter(|&column| self.wants(&columns[column])).collect();
            let of_group = |group: &RowGroupMetaData| -> usize {
                let sizes = wanted.iter().map(|&column| group.column(column).uncompressed_size());
                sizes.map(|size| usize::try_from(size).unwrap_or(0).min(2 * PAGE_BYTES)).sum()
            };
            groups.iter().map(of_group).max().unwrap_or(0)
        };
        self.source.files().iter().map(of_file).max().unwrap_or(0)
    }

    fn wants(&self, chunk: &ColumnChunkMetaData) -> bool {
        let root = chunk.column_path().parts().first();
        root.is_some_and(|name| self.columns.contains(name))
    }

    /// The numbers of the row groups of a file that may have rows to read.
    pub(super) fn group_numbers(&self, pinned: &PinnedFile) -> Result<Vec<usize>> {
        let keep = self.groups_in_window(pinned)?;
        Ok((0..keep.len()).filter(|&group| keep[group]).collect())
    }

    fn spans_of(
        &self,
        part: &Part,
        file: usize,
        pinned: &'a PinnedFile,
    ) -> Result<Vec<ScanGroup<'a>>> {
        self.spans(pinned, |group, rows| part.of(file, group, rows))
    }

    /// Rows to read of each row group that has any, and any of those `wanted`.
    fn spans(
        &self,
        pinned: &'a PinnedFile,
        wanted: impl Fn(usize, Range<u64>) -> Range<u64>,
    ) -> Result<Vec<ScanGroup<'a>>> {
        let mut keep = self.groups_in_window(pinned)?;
        self.keys.iter().for_each(|key| key.prune(pinned, &mut keep));
        let mut start = pinned.first_row;
        let mut groups = Vec::new();
        for (index, group) in pinned.metadata.metadata().row_groups().iter().enumerate() {
            let end = start + u64::try_from(group.num_rows()).unwrap_or(0);
            let within = wanted(index, start..end);
            let from = within.start;
            let spans = match self.rows {
                _ if !keep[index] => VecDeque::new(),
                None => std::iter::once(within).collect(),
                Some(rows) => blocks(within, rows),
            };
            if spans.iter().any(|span| !span.is_empty()) {
                groups.push(ScanGroup { pinned, index, first_row: start, from, spans });
            }
            start = end;
        }
        Ok(groups)
    }

    fn groups_in_window(&self, pinned: &PinnedFile) -> Result<Vec<bool>> {
        let groups = pinned.metadata.metadata().num_row_groups();
        let (Some((_, window)), Some((mins, maxes))) = (self.window, self.event_bounds(pinned)?)
        else {
            return Ok(vec![true; groups]);
        };
        let may_match = |group| match (mins.get(group), maxes.get(group)) {
            (Some(min), Some(max)) => min.micros <= window.end && max.micros >= window.start,
            _ => true,
        };
        Ok((0..groups).map(may_match).collect())
    }

    /// The least and the greatest event timestamp of each row group of a file, as far as its
    /// statistics tell; `None`: they don't, or no window is scanned.
    pub(super) fn event_bounds(
        &self,
        pinned: &PinnedFile,
    ) -> Result<Option<(Timestamps, Timestamps)>> {
        let groups = pinned.metadata.metadata().row_groups();
        let Some((column, _)) = self.window else { return Ok(None) };
        let metadata = &pinned.metadata;
        let Ok(statistics) =
            StatisticsConverter::try_new(column, metadata.schema(), metadata.parquet_schema())
        else {
            return Ok(None);
        };
        // Writers disagree on how INT96 is ordered, so its statistics mean nothing.
        let usable = statistics.parquet_column_index().is_some_and(|index| {
            metadata.parquet_schema().column(index).physical_type() != PhysicalType::INT96
        });
        let (true, Ok(mins), Ok(maxes)) =
            (usable, statistics.row_group_mins(groups), statistics.row_group_maxes(groups))
        else {
            return Ok(None);
        };
        let mins = Timestamps::from_array(mins.as_ref(), column)?;
        Ok(Some((mins, Timestamps::from_array(maxes.as_ref(), column)?)))
    }
}

/// What came, one by one; or the one failure.
fn flat<T>(found: Result<Vec<T>>) -> Vec<Result<T>> {
    match found {
        Ok(items) => items.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    }
}

impl ScanKey {
    /// Takes row groups without any such key out of `keep`.
    fn prune(&self, pinned: &PinnedFile, keep: &mut [bool]) {
        let metadata = &pinned.metadata;
        let groups = metadata.metadata().row_groups();
        let Ok(statistics) = StatisticsConverter::try_new(
            &self.column,
            metadata.schema(),
            metadata.parquet_schema(),
        ) else {
            return;
        };
        let Some(index) = statistics.parquet_column_index() else { return };
        // What old writers said of text and bytes was in another order.
        let is_known = groups.iter().all(|group| {
            let statistics = group.columns().get(index).and_then(|column| column.statistics());
            statistics.is_some_and(|found| {
                !found.is_min_max_deprecated() || matches!(found, Statistics::Int64(_))
            })
        });
        let (true, Ok(mins), Ok(maxes)) =
            (is_known, statistics.row_group_mins(groups), statistics.row_group_maxes(groups))
        else {
            return;
        };
        for (group, keep) in keep.iter_mut().enumerate() {
            let (least, most) = (mins.slice(group, 1), maxes.slice(group, 1));
            *keep &= self.bounds.may_have(self.form, &least, &most);
        }
    }
}

/// A row group whose bytes may be on their way.
struct Opened<'a> {
    group: ScanGroup<'a>,
    file: OpenFile,
    // Bytes that were asked for, about.
    coming: u64,
}

/// The rows to read of one row group.
pub struct ScanGroup<'a> {
    pinned: &'a PinnedFile,
    index: usize,
    first_row: u64,
    // The first of its rows that is to be looked at.
    from: u64,
    spans: VecDeque<Range<u64>>,
}

impl ScanGroup<'_> {
    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.spans.iter().map(|span| span.end - span.start).sum()
    }

    fn selection(&self) -> RowSelection {
        let mut selectors = Vec::new();
        let mut at = self.first_row;
        for span in &self.spans {
            selectors.push(RowSelector::skip((span.start - at) as usize));
            selectors.push(RowSelector::select((span.end - span.start) as usize));
            at = span.end;
        }
        selectors.into()
    }

    /// Takes the numbers of the next `rows` rows.
    fn advance(&mut self, mut rows: u64) -> Vec<Range<u64>> {
        let mut taken = Vec::new();
        while rows > 0 {
            let Some(span) = self.spans.front_mut() else { break };
            let end = span.end.min(span.start + rows);
            taken.push(span.start..end);
            rows -= end - span.start;
            span.start = end;
            if span.is_empty() {
                self.spans.pop_front();
            }
        }
        taken
    }
}

/// `rows`, without blocks that have none of `wanted`.
fn blocks(rows: Range<u64>, wanted: &RowSet) -> VecDeque<Range<u64>> {
    let mut spans: VecDeque<Range<u64>> = VecDeque::new();
    let mut start = rows.start;
    while start < rows.end {
        let end = rows.end.min(start + SKIP_BLOCK_ROWS);
        if wanted.intersects(start..end) {
            match spans.back_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => spans.push_back(start..end),
            }
        }
        start = end;
    }
    spans
}

struct GroupReader<'a> {
    scan: &'a Scan<'a>,
    pinned: &'a PinnedFile,
    file: &'a OpenFile,
    learned: Option<usize>,
}

impl GroupReader<'_> {
    /// Reads one row group. The reader is built anew, from the row it had come to, when rows
    /// turn out to be much larger or smaller than its batch size supposed.
    fn read(&mut self, mut group: ScanGroup<'_>, take: &mut Take<'_>) -> Result<()> {
        while !group.spans.is_empty() {
            let batch_rows = self.batch_rows(group.index);
            let reader = self.reader(&group, batch_rows)?;
            for batch in reader {
                let batch = batch.map_err(|cause| self.broken(cause))?;
                let positions = group.advance(batch.num_rows() as u64);
                self.learn(&batch);
                let columns = self.arrange(&batch)?;
                take(ScanBatch { columns, positions, group_start: group.from })?;
                let better = self.batch_rows(group.index);
                if better * 2 < batch_rows || better / 4 > batch_rows {
                    break;
                }
            }
        }
        Ok(())
    }

    fn reader(&self, group: &ScanGroup<'_>, batch_rows: usize) -> Result<ParquetRecordBatchReader> {
        let (file, metadata) = (self.file.clone(), self.pinned.metadata.clone());
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_projection(ProjectionMask::roots(
                self.pinned.metadata.parquet_schema(),
                self.roots(),
            ))
            .with_row_groups(vec![group.index])
            .with_row_selection(group.selection())
            .with_batch_size(batch_rows)
            .build()
            .map_err(|cause| self.broken(cause))
    }

    fn roots(&self) -> Vec<usize> {
        let schema = self.pinned.metadata.schema();
        self.scan.columns.iter().filter_map(|name| schema.index_of(name).ok()).collect()
    }

    fn learn(&mut self, batch: &RecordBatch) {
        let rows = batch.num_rows().max(1);
        self.learned = Some((batch.get_array_memory_size() / rows).max(1));
    }

    fn batch_rows(&self, group: usize) -> usize {
        let rows = |row_bytes: usize| (self.scan.batch_bytes / row_bytes.max(1)).max(1);
        match self.learned {
            Some(row_bytes) => rows(row_bytes).min(MAX_BATCH_ROWS),
            None => {
                let group = self.pinned.metadata.metadata().row_group(group);
                let (row_bytes, is_certain) = self.row_bytes(group);
                rows(row_bytes).min(if is_certain { MAX_BATCH_ROWS } else { PROBE_ROWS })
            }
        }
    }

    /// Bytes a row by the footer, and whether they can be trusted: a dictionary may stand for
    /// many times its own size.
    fn row_bytes(&self, group: &RowGroupMetaData) -> (usize, bool) {
        let chunks = group.columns().iter();
        let mut bytes = 0;
        let mut is_certain = true;
        for chunk in chunks {
            if !self.scan.wants(chunk) {
                continue;
            }
            let stored = chunk.uncompressed_size();
            bytes += match chunk.column_type() {
                PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY => {
                    is_certain &= chunk.unencoded_byte_array_data_bytes().is_some()
                        || chunk.dictionary_page_offset().is_none();
                    chunk.unencoded_byte_array_data_bytes().unwrap_or(0).max(stored)
                }
                _ => stored.max(chunk.num_values() * 8),
            };
        }
        let rows = group.num_rows().max(1);
        (usize::try_from(bytes / rows).unwrap_or(usize::MAX), is_certain)
    }

    /// The columns in the order of the scan, dictionaries unpacked, folder columns added.
    fn arrange(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let column = |name: &String| match batch.column_by_name(name) {
            Some(array) => self.unpack(array),
            None => self.folder_column(name, batch.num_rows()),
        };
        self.scan.columns.iter().map(column).collect()
    }

    fn unpack(&self, array: &ArrayRef) -> Result<ArrayRef> {
        match array.data_type() {
            DataType::Dictionary(_, values) => {
                arrow_cast::cast(array, values).map_err(|cause| self.broken(cause))
            }
            _ => Ok(array.clone()),
        }
    }

    fn folder_column(&self, name: &str, rows: usize) -> Result<ArrayRef> {
        let value = self.pinned.partitions.iter().find(|(column, _)| column == name);
        let Some((_, value)) = value else {
            return Err(Error::new(
                ErrorKind::SourceInvalid,
                format!("file '{}' has no column '{name}'", self.pinned.name),
            ));
        };
        Ok(match value {
            FolderValue::Null => Arc::new(StringArray::new_null(rows)),
            FolderValue::Number(number) => Arc::new(Int64Array::from_value(*number, rows)),
            FolderValue::Text(text) => {
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
            }
        })
    }

    #[cold]
    fn broken(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        if let Some(failure) = self.file.take_failure() {
            return failure;
        }
        Error::new(
            ErrorKind::SourceInvalid,
            format!("file '{}' can't be read as Parquet", self.pinned.name),
        )
        .with_source(cause)
    }
}
