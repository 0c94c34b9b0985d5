//! Opens a table in whatever form it is, and yields its rows.

use std::io::{self, Read};

use crate::delimited::Delimited;
use crate::dialect;
use crate::error::{RowProblem, TableError};
use crate::json::Json;
use crate::options::{Format, TableOptions};
use crate::row::Row;
use crate::source::{Opened, Progress, Source, foreign};

/// The start of a table that is looked at to detect its form.
const HEAD_BYTES: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rows of a table, in order. Nothing follows an error of the table.
pub struct TableReader {
    name: String,
    rows: Rows,
    progress: Progress,
    has_ended: bool,
}

enum Rows {
    Delimited(Box<Delimited>),
    Json(Box<Json>),
}

impl TableReader {
    /// Opens a source, detects its form and reads its header.
    pub fn open(source: &Source, options: &TableOptions) -> Result<Self, TableError> {
        let Opened { name, table, mut bytes, progress } = source.open(options.max_bytes)?;
        // A pipe may stay silent after its first lines, which are to be answered at once.
        let is_patient = progress.total.is_some();
        let mut head = head(&mut bytes, is_patient).map_err(|error| TableError::reading(&name, error))?;
        if let Some(advice) = foreign::advice(&head, &name) {
            return Err(TableError::invalid(&name, advice));
        }
        while head.starts_with(BYTE_ORDER_MARK) {
            head.drain(..BYTE_ORDER_MARK.len());
        }
        let first = head.trim_ascii_start().first().copied();
        let format = options.format.unwrap_or_else(|| format_of(&table, first));
        let rows = match format {
            Format::Csv | Format::Tsv => {
                let dialect = dialect::detect(&head, format, options);
                head.drain(..dialect.preamble);
                let bytes = Box::new(io::Cursor::new(head).chain(bytes));
                Rows::Delimited(Box::new(Delimited::open(&name, bytes, &dialect, &options.columns)?))
            }
            Format::Jsonl | Format::Json => {
                let is_array = format == Format::Json && first == Some(b'[');
                let bytes = Box::new(io::Cursor::new(head).chain(bytes));
                Rows::Json(Box::new(Json::new(&name, bytes, is_array, &options.columns)))
            }
        };
        Ok(Self { name, rows, progress, has_ended: false })
    }

    /// The name of the input for messages. For a folder, it is the file that is read.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much of the source has been read; the value follows the reading.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Iterator for TableReader {
    type Item = Result<Result<Row, RowProblem>, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let row = match &mut self.rows {
            Rows::Delimited(rows) => rows.next_row(),
            Rows::Json(rows) => rows.next_row(),
        };
        let row = row.transpose();
        self.has_ended = !matches!(row, Some(Ok(_)));
        row
    }
}

/// Returns the format by the name of the table, otherwise by its first character.
fn format_of(table: &str, first: Option<u8>) -> Format {
    let name = table.to_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zip")).unwrap_or(&name);
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("csv") => Format::Csv,
        Some("tsv" | "tab") => Format::Tsv,
        Some("jsonl" | "ndjson" | "json") => Format::Json,
        _ if matches!(first, Some(b'{' | b'[')) => Format::Json,
        _ => Format::Csv,
    }
}

/// Reads the start of a table. Without patience, the first line is enough, or the first two if the
/// first names the delimiter.
fn head(bytes: &mut impl Read, is_patient: bool) -> io::Result<Vec<u8>> {
    let (mut head, mut length) = (vec![0; HEAD_BYTES], 0);
    while length < head.len() {
        match bytes.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let lines = head[..length].iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
        let is_separator = head[..length].windows(4).take(4).any(|start| start.eq_ignore_ascii_case(b"sep="));
        if !is_patient && lines > if is_separator { 2 } else { 0 } {
            break;
        }
    }
    head.truncate(length);
    Ok(head)
}
