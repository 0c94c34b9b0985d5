//! Parquet files that are complete or absent, and whose metadata names their format.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::file::metadata::{
    KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use tempfile::NamedTempFile;

use crate::FileError;
use crate::data::checked_pages::CheckedPages;

/// Rows held in memory before they are written: 16 MiB of vectors with 512 floats.
const ROW_GROUP: usize = 8192;
/// Bytes held in memory before they are written.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// The writer of a file, in the form that other readers of Parquet parse. The default names the
/// library's version, so an upgrade would change the bytes of every file.
const CREATED_BY: &str = concat!("movieclassifier version ", env!("CARGO_PKG_VERSION"), " (build trainer)");

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
        /// The expectation, and the value found.
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
        Self::create_in(folder_of(path), path, schema, properties)
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
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_created_by(CREATED_BY.to_owned());
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

/// Returns the folder of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the `format` in the metadata of a Parquet file, which is empty if the file has none.
/// Returns `None` if the file cannot be read.
pub(crate) fn format_of(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let metadata = unless_it_panics(|| ParquetMetaDataReader::new().parse_and_finish(&file)).ok()?;
    Some(format_in(&metadata))
}

/// Returns the `format` in the metadata of a Parquet file, which is empty if the file has none.
pub(crate) fn format_in(metadata: &ParquetMetaData) -> String {
    let entries = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let format = entries.filter(|entry| entry.key == "format").find_map(|entry| entry.value.clone());
    format.unwrap_or_default()
}

/// Reads a file batch by batch.
pub(crate) struct TableReader {
    pub(crate) path: PathBuf,
    /// The schema of the file. Batches have views instead of texts.
    pub(crate) schema: SchemaRef,
    pub(crate) rows: usize,
    metadata: BTreeMap<String, String>,
    batches: ParquetRecordBatchReader,
}

impl TableReader {
    /// Opens a file whose metadata's `format` is one of `formats`, to read `batch` rows at a time.
    pub(crate) fn open(path: &Path, formats: &[&str], batch: usize) -> Result<Self, TableError> {
        let file = File::open(path).map_err(FileError::at(path))?;
        let metadata = file.metadata().map_err(FileError::at(path))?;
        if metadata.is_dir() {
            return Err(TableError::invalid(path, "expected a Parquet file, found a folder"));
        }
        let invalid = |reason| TableError::invalid(path, reason);
        let bytes = metadata.len();
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
        let contents =
            unless_it_panics(|| ArrowReaderMetadata::load(&file, options.clone())).map_err(|error| {
                invalid(format!(
                    "expected a whole Parquet file, found {bytes} bytes that are not one: {error}"
                ))
            })?;
        check_places(contents.metadata(), bytes).map_err(invalid)?;
        let schema = contents.schema().clone();
        let options = options.with_schema(with_views(&schema));
        let contents = ArrowReaderMetadata::try_new(contents.metadata().clone(), options)
            .map_err(|error| invalid(error.to_string()))?;
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
        if !metadata.contains_key("format") {
            return Err(invalid(saved_again(formats[0], file_metadata.created_by())));
        }
        let batches = unless_it_panics(|| builder.with_batch_size(batch).build()).map_err(invalid)?;
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

/// The schema with views instead of texts. Many rows can then share a text of a page, which a small
/// file would otherwise multiply in memory.
fn with_views(schema: &SchemaRef) -> SchemaRef {
    let as_view = |data_type: &DataType| match data_type {
        DataType::Utf8 => Some(DataType::Utf8View),
        _ => None,
    };
    let field = |field: &FieldRef| {
        let list = match field.data_type() {
            DataType::List(element) => as_view(element.data_type()).map(|data_type| {
                DataType::List(Arc::new(element.as_ref().clone().with_data_type(data_type)))
            }),
            _ => None,
        };
        match as_view(field.data_type()).or(list) {
            Some(data_type) => Arc::new(field.as_ref().clone().with_data_type(data_type)),
            None => field.clone(),
        }
    };
    Arc::new(Schema::new_with_metadata(
        schema.fields().iter().map(field).collect::<Fields>(),
        schema.metadata().clone(),
    ))
}

/// Explains a table without our metadata, which pandas, polars and `DuckDB` drop when they save it.
fn saved_again(format: &str, created_by: Option<&str>) -> String {
    let writer = created_by.unwrap_or("an unknown program");
    let remedy = if format.starts_with("movieclassifier.movies/") {
        "save it as CSV and run `trainer prepare --input FILE.csv` with the names of its columns"
    } else {
        "run `trainer encode` again"
    };
    format!(
        "expected metadata \"format\", found none: {writer} wrote this table, and saving a table again drops the \
         metadata that proves its content. Use the file of the trainer itself, or {remedy}"
    )
}

/// Turns a panic of the parquet crate, which some damaged files cause, into an error. The reader
/// must not be used after an error.
pub(crate) fn unless_it_panics<T, E: std::fmt::Display>(
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
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
