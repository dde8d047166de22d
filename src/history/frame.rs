//! An entity frame in Parquet files: read piece by piece.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema, SchemaRef};

use super::search::BATCH_BYTES;
use super::sources::feature_field;
use crate::call::Call;
use crate::cloud::CloudSettings;
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::{Scan, ScanGroup, SourceFiles};

/// The pinned files of an entity frame.
pub struct FrameFiles {
    files: SourceFiles,
    names: Vec<String>,
    schema: SchemaRef,
}

impl FrameFiles {
    /// Finds and pins the files at `path`, as those of a source.
    pub fn open(path: &str, config: &RepoConfig, call: &Call<'_>) -> Result<Self> {
        let settings = CloudSettings {
            endpoint: None,
            region: config.object_stores.s3_region.clone(),
            profile: config.object_stores.s3_profile.clone(),
            is_anonymous: config.object_stores.is_anonymous,
        };
        let files = SourceFiles::pin(path, None::<&Path>, &settings, call)
            .map_err(|error| error.context("the entity frame"))?;
        let first = files.files().first();
        let names: Vec<String> = first.map_or(Vec::new(), |file| {
            let own = file.metadata.schema().fields().iter().map(|field| field.name().clone());
            own.chain(file.partitions.iter().map(|(name, _)| name.clone())).collect()
        });
        let mut fields: Vec<Field> = Vec::new();
        for name in &names {
            files.require_column(name, "a column of the entity frame")?;
            fields.push(feature_field(&files, name, name)?);
        }
        Ok(FrameFiles { files, names, schema: Arc::new(Schema::new(fields)) })
    }

    /// The columns of the frame.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.files.rows()
    }

    /// The rows of the row groups from number `group` on, at least `rows` if there are as many;
    /// and the number of the next row group, `None` after the last.
    pub fn read(
        &self,
        group: usize,
        rows: usize,
        call: &Call<'_>,
    ) -> Result<(Vec<RecordBatch>, Option<usize>)> {
        let scan = Scan {
            source: &self.files,
            columns: &self.names,
            window: None,
            keys: &[],
            rows: None,
            batch_bytes: BATCH_BYTES,
        };
        let groups: Vec<ScanGroup<'_>> = scan.groups()?;
        let (mut batches, mut found, mut next) = (Vec::new(), 0, group);
        for group in groups.into_iter().skip(group) {
            if found >= rows {
                return Ok((batches, Some(next)));
            }
            scan.run_group(group, &mut |batch| {
                call.check()?;
                found += batch.rows();
                batches.push(self.batch(batch.rows(), batch.columns)?);
                Ok(())
            })?;
            next += 1;
        }
        Ok((batches, None))
    }

    fn batch(&self, rows: usize, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        let wanted = columns.into_iter().zip(self.schema.fields());
        let columns = wanted.map(|(array, field)| arrow_cast::cast(&array, field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        columns
            .collect::<std::result::Result<Vec<_>, _>>()
            .and_then(|columns| {
                RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            })
            .map_err(|cause| {
                let message = "the entity frame's files don't fit together";
                Error::new(ErrorKind::SourceInvalid, message).with_source(cause)
            })
    }
}
