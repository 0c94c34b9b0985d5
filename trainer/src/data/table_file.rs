//! Parquet files that are complete or absent, and whose metadata names their format.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use tempfile::NamedTempFile;

use crate::FileError;
use crate::data::checked_pages::CheckedPages;

/// Rows held in memory before they are written: 16 MiB of vectors with 512 floats.
const ROW_GROUP: usize = 8192;
/// Rows read at a time.
const READ_BATCH: usize = 1024;

/// Why a Parquet file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be opened, read or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The file exists but does not hold what it should.
    #[error("{path}: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

impl TableError {
    pub(crate) fn invalid(path: &Path, reason: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_owned(), reason: reason.into() }
    }

    /// Returns the reason without the path, for a message that names the file itself.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Io(error) => error.source.to_string(),
            Self::Invalid { reason, .. } => reason.clone(),
        }
    }
}

/// Writes to a temporary file, which [`finish`](Self::finish) syncs and renames.
pub(crate) struct TableWriter {
    path: PathBuf,
    writer: ArrowWriter<NamedTempFile>,
}

impl TableWriter {
    /// Starts a file. `properties` may adjust columns, such as whether they have a dictionary.
    pub(crate) fn create(
        path: &Path,
        schema: SchemaRef,
        properties: impl FnOnce(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
    ) -> Result<Self, TableError> {
        Self::create_in(&folder_of(path), path, schema, properties)
    }

    /// As [`create`](Self::create), with the temporary file in `folder`, which must be on the file
    /// system of `path`.
    pub(crate) fn create_in(
        folder: &Path,
        path: &Path,
        schema: SchemaRef,
        properties: impl FnOnce(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
    ) -> Result<Self, TableError> {
        if path.is_dir() {
            return Err(TableError::invalid(path, "expected a file to write to, found a folder"));
        }
        std::fs::create_dir_all(folder).map_err(FileError::at(folder))?;
        let file = NamedTempFile::new_in(folder).map_err(FileError::at(folder))?;
        let builder = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP))
            // The default names the library's version, so an upgrade would change the bytes of
            // every file.
            .set_created_by("movieclassifier trainer".to_owned());
        let writer = ArrowWriter::try_new(file, schema, Some(properties(builder).build()))
            .map_err(|error| TableError::invalid(path, error.to_string()))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        self.writer.write(batch).map_err(|error| TableError::invalid(&self.path, error.to_string()))
    }

    /// Writes the metadata, syncs the file and gives it its name.
    pub(crate) fn finish(
        mut self,
        metadata: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<(), TableError> {
        for (key, value) in metadata {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let io = |source| FileError::at(&self.path)(source);
        let file =
            self.writer.into_inner().map_err(|error| TableError::invalid(&self.path, error.to_string()))?;
        // Temporary files are readable by their owner only; the finished file is for everyone.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(io)?;
        }
        file.as_file().sync_all().map_err(io)?;
        file.persist(&self.path).map_err(|error| io(error.error))?;
        Ok(File::open(folder_of(&self.path)).and_then(|folder| folder.sync_all()).map_err(io)?)
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reads a file batch by batch.
pub(crate) struct TableReader {
    pub(crate) path: PathBuf,
    pub(crate) schema: SchemaRef,
    pub(crate) rows: usize,
    metadata: BTreeMap<String, String>,
    batches: ParquetRecordBatchReader,
}

impl TableReader {
    /// Opens a file whose metadata's `format` is one of `formats`.
    pub(crate) fn open(path: &Path, formats: &[&str]) -> Result<Self, TableError> {
        let file = File::open(path).map_err(FileError::at(path))?;
        let metadata = file.metadata().map_err(FileError::at(path))?;
        if metadata.is_dir() {
            return Err(TableError::invalid(path, "expected a Parquet file, found a folder"));
        }
        let invalid = |reason| TableError::invalid(path, reason);
        let bytes = metadata.len();
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
        let contents = unless_it_panics(|| ArrowReaderMetadata::load(&file, options)).map_err(|error| {
            invalid(format!("expected a whole Parquet file, found {bytes} bytes that are not one: {error}"))
        })?;
        check_places(contents.metadata(), bytes).map_err(invalid)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(CheckedPages(file), contents);
        let file_metadata = builder.metadata().file_metadata();
        let rows = usize::try_from(file_metadata.num_rows())
            .map_err(|_| invalid(format!("expected a number of rows, found {}", file_metadata.num_rows())))?;
        let metadata: BTreeMap<String, String> = file_metadata
            .key_value_metadata()
            .into_iter()
            .flatten()
            .filter_map(|entry| Some((entry.key.clone(), entry.value.clone()?)))
            .collect();
        let schema = builder.schema().clone();
        let batches = unless_it_panics(|| builder.with_batch_size(READ_BATCH).build()).map_err(invalid)?;
        let reader = Self { path: path.to_owned(), schema, rows, metadata, batches };
        let found = reader.text("format")?;
        if !formats.contains(&found) {
            let expected: Vec<_> = formats.iter().map(|format| format!("{format:?}")).collect();
            return Err(invalid(format!("expected format {}, found {found:?}", expected.join(" or "))));
        }
        Ok(reader)
    }

    /// Returns a value of the file's metadata.
    pub(crate) fn text(&self, key: &str) -> Result<&str, TableError> {
        let missing = || TableError::invalid(&self.path, format!("expected metadata {key:?}, found none"));
        self.metadata.get(key).map(String::as_str).ok_or_else(missing)
    }

    /// Checks that a value of the metadata is `expected`.
    pub(crate) fn expect(&self, key: &str, expected: &str) -> Result<(), TableError> {
        let found = self.text(key)?;
        if found == expected {
            return Ok(());
        }
        Err(TableError::invalid(
            &self.path,
            format!("metadata {key:?}: expected {expected:?}, found {found:?}"),
        ))
    }

    /// Returns the next rows, or `None` after the last.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        let batch = unless_it_panics(|| self.batches.next().transpose());
        batch.map_err(|error| {
            TableError::invalid(&self.path, format!("expected an undamaged Parquet file: {error}"))
        })
    }
}

/// Turns a panic of the parquet crate, which some damaged files cause, into an error. The reader
/// must not be used after an error.
fn unless_it_panics<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the Parquet reader panicked".to_owned()),
    }
}

/// Checks that all columns lie within the file.
fn check_places(metadata: &ParquetMetaData, bytes: u64) -> Result<(), String> {
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let (start, length) = (u64::try_from(start).ok(), u64::try_from(column.compressed_size()).ok());
        let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
        if end.is_none_or(|end| end > bytes) {
            return Err(format!(
                "expected a whole Parquet file, found column {} outside its {bytes} bytes",
                column.column_path()
            ));
        }
    }
    Ok(())
}
