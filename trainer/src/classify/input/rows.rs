//! The rows to classify.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use movie_table::{MAX_TEXT_BYTES, Row, Source, TableOptions, TableReader, is_placeholder, is_table_name};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use service_kit::is_blank;
use sha2::{Digest as _, Sha256};

use crate::data::table_file::unless_it_panics;

/// Rows of a Parquet file in memory.
const BATCH: usize = 1024;
const PARQUET_MAGIC: &[u8] = b"PAR1";

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A table of text.
    #[error(transparent)]
    Table(#[from] movie_table::TableError),
    /// A Parquet file, or a folder.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// The expectation, and the value found.
        reason: String,
    },
}

/// One row of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRow {
    /// The id, as found.
    pub id: Option<String>,
    /// The movie, or why the row is none.
    pub movie: Result<MovieText, String>,
}

/// The texts of a movie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovieText {
    /// The title; empty if there is none.
    pub title: String,
    /// The overview, which is not blank.
    pub overview: String,
}

/// Tables that are read in order, more than once.
#[derive(Debug, Clone)]
pub struct Input {
    tables: Vec<Source>,
    options: TableOptions,
}

/// How many rows an input has, and the digest over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Rows, also those that are no movies.
    pub rows: usize,
    /// SHA-256 over the ids and texts of all rows.
    pub digest: String,
}

/// Rows in order, until the first error.
pub type Rows = Box<dyn Iterator<Item = Result<InputRow, InputError>>>;

impl Input {
    /// The tables at `paths`: files, folders of which all tables are read in the order of their
    /// names, or `-` for standard input.
    pub fn new(paths: &[PathBuf], options: TableOptions) -> Result<Self, InputError> {
        let mut tables = Vec::new();
        for path in paths {
            if path.is_dir() {
                tables.extend(tables_in(path)?.into_iter().map(Source::Path));
            } else {
                tables.push(Source::new(path).spooled(options.max_bytes)?);
            }
        }
        Ok(Self { tables, options })
    }

    /// Opens the input at its first row.
    #[must_use]
    pub fn open(&self) -> Rows {
        let options = self.options.clone();
        let tables = self.tables.clone().into_iter();
        Box::new(tables.flat_map(move |table| {
            open(&table, &options).unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
        }))
    }

    /// Reads all rows once and counts them.
    pub fn inventory(&self) -> Result<Inventory, InputError> {
        let (mut rows, mut digest) = (0, Sha256::new());
        for row in self.open() {
            let InputRow { id, movie } = row?;
            let (kind, texts) = match &movie {
                Ok(MovieText { title, overview }) => (b'm', [title, overview]),
                Err(reason) => (b'e', [reason, reason]),
            };
            digest.update([kind, u8::from(id.is_some())]);
            for text in [id.as_ref().unwrap_or(&String::new()), texts[0], texts[1]] {
                digest.update((text.len() as u64).to_le_bytes());
                digest.update(text);
            }
            rows += 1;
        }
        Ok(Inventory { rows, digest: hex::encode(digest.finalize()) })
    }
}

/// Returns the tables in a folder, by name. Hidden files and marks such as `_SUCCESS` are none.
fn tables_in(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let invalid = |reason: String| InputError::Invalid { path: folder.to_owned(), reason };
    let entries = std::fs::read_dir(folder).map_err(|error| invalid(error.to_string()))?;
    let mut tables = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| invalid(error.to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_hidden = name.starts_with(['.', '_']);
        if !is_hidden && (is_table_name(&name) || name.to_lowercase().ends_with(".parquet")) {
            tables.push(entry.path());
        }
    }
    if tables.is_empty() {
        return Err(invalid("expected tables such as *.parquet or *.csv, found none".to_owned()));
    }
    tables.sort();
    Ok(tables)
}

fn open(table: &Source, options: &TableOptions) -> Result<Rows, InputError> {
    if let Source::Path(path) = table
        && is_parquet(path)
    {
        return Ok(Box::new(ParquetRows::open(path, options)?));
    }
    let rows = TableReader::open(table, options)?;
    Ok(Box::new(rows.map(|row| {
        Ok(match row? {
            Ok(Row { line, id, title, overview, .. }) => {
                input_row(&format!("line {line}"), id, title, overview)
            }
            Err(problem) => InputRow { id: None, movie: Err(problem.to_string()) },
        })
    })))
}

fn is_parquet(path: &Path) -> bool {
    let mut start = [0; PARQUET_MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == PARQUET_MAGIC
}

/// Checks the texts of a row. `place` names it in messages.
fn input_row(place: &str, id: Option<String>, title: Option<String>, overview: Option<String>) -> InputRow {
    let title = title.unwrap_or_default();
    let movie = match overview {
        Some(overview) if !is_placeholder(&overview) && !is_blank(&overview) => {
            let longest = title.len().max(overview.len());
            if longest <= MAX_TEXT_BYTES {
                Ok(MovieText { title, overview })
            } else {
                Err(format!("{place}: expected texts of at most {MAX_TEXT_BYTES} bytes, found {longest}"))
            }
        }
        Some(text) if !is_blank(&text) => {
            Err(format!("{place}: expected a text as the overview, found the placeholder {text:?}"))
        }
        _ => Err(format!("{place}: expected a text as the overview, found none")),
    };
    InputRow { id, movie }
}

/// The rows of a Parquet file of any program.
struct ParquetRows {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    /// The places of id, title and overview among the columns that are read.
    columns: [Option<usize>; 3],
    batch: Option<(RecordBatch, usize)>,
    row: u64,
}

impl ParquetRows {
    fn open(path: &Path, options: &TableOptions) -> Result<Self, InputError> {
        let invalid = |reason: String| InputError::Invalid { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|error| invalid(error.to_string()))?;
        // Without the writer's own types, which may be dictionaries, texts are plain texts.
        let reading = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder =
            unless_it_panics(|| ParquetRecordBatchReaderBuilder::try_new_with_options(file, reading))
                .map_err(|error| invalid(format!("expected a whole Parquet file: {error}")))?;
        let fields = builder.schema().fields();
        let place = |name: &str| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name));
        let names = &options.columns;
        let places = [&names.id, &names.title, &names.overview].map(|name| place(name));
        if places[2].is_none() {
            let found: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
            let (expected, found) = (&names.overview, found.join(", "));
            return Err(invalid(format!("expected a column {expected:?} of overviews, found {found}")));
        }
        let mut read: Vec<usize> = places.iter().flatten().copied().collect();
        read.sort_unstable();
        let columns = places.map(|place| place.and_then(|place| read.iter().position(|read| *read == place)));
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let batches = unless_it_panics(|| builder.with_projection(mask).with_batch_size(BATCH).build())
            .map_err(invalid)?;
        Ok(Self { path: path.to_owned(), batches, columns, batch: None, row: 0 })
    }

    fn next_row(&mut self) -> Result<Option<InputRow>, InputError> {
        let invalid = |path: &Path, reason: String| InputError::Invalid { path: path.to_owned(), reason };
        loop {
            if let Some((batch, row)) = &mut self.batch
                && *row < batch.num_rows()
            {
                let at = *row;
                let cell = |column: Option<usize>| {
                    column.map_or(Ok(None), |column| text(batch.column(column), at, self.row + 1))
                };
                let cells = self.columns.map(cell);
                let [id, title, overview] = cells;
                let wrong = |reason| invalid(&self.path, reason);
                let (id, title, overview) =
                    (id.map_err(wrong)?, title.map_err(wrong)?, overview.map_err(wrong)?);
                *row += 1;
                self.row += 1;
                return Ok(Some(input_row(&format!("row {}", self.row), id, title, overview)));
            }
            let next = unless_it_panics(|| self.batches.next().transpose());
            match next {
                Ok(Some(batch)) => self.batch = Some((batch, 0)),
                Ok(None) => return Ok(None),
                Err(error) => {
                    let reason =
                        format!("after row {}: expected an undamaged Parquet file: {error}", self.row);
                    return Err(invalid(&self.path, reason));
                }
            }
        }
    }
}

impl Iterator for ParquetRows {
    type Item = Result<InputRow, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

/// Returns a cell as text; `None` if it is null. Whole numbers are texts, too.
fn text(column: &ArrayRef, row: usize, number: u64) -> Result<Option<String>, String> {
    if column.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        other => return Err(format!("row {number}: expected texts or numbers, found a column of {other}")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_an_overview_is_a_row_with_a_reason() {
        let row = |overview: Option<&str>| {
            input_row("line 3", Some("7".to_owned()), None, overview.map(str::to_owned)).movie
        };
        assert_eq!(row(Some("A ship.")).unwrap().overview, "A ship.");
        assert_eq!(row(None).unwrap_err(), "line 3: expected a text as the overview, found none");
        assert_eq!(
            row(Some(" \u{feff}")).unwrap_err(),
            "line 3: expected a text as the overview, found none"
        );
        assert!(row(Some("nan")).unwrap_err().ends_with("found the placeholder \"nan\""));
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        assert!(row(Some(&long)).unwrap_err().contains("at most 65536 bytes, found 65537"));
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names_and_the_digest_follows_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("b.csv", "id,title,overview\n2,Two,A ship.\n");
        write("a.csv", "id,title,overview\n1,One,A storm.\n3,Three,\n");
        write("_SUCCESS", "");
        let input = || Input::new(&[folder.path().to_owned()], TableOptions::default()).unwrap();
        let ids = |input: &Input| {
            input.open().map(|row| row.unwrap().id.unwrap_or_default()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ids(&input()), "1 3 2");
        let before = input().inventory().unwrap();
        assert_eq!((before.rows, input().inventory().unwrap()), (3, before.clone()));
        write("b.csv", "id,title,overview\n2,Two,A shop.\n");
        assert_ne!(input().inventory().unwrap().digest, before.digest);
        let empty = tempfile::tempdir().unwrap();
        let error = Input::new(&[empty.path().to_owned()], TableOptions::default()).unwrap_err();
        assert!(error.to_string().contains("expected tables such as *.parquet or *.csv, found none"));
    }
}
