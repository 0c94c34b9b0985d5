//! The rows of a table with a delimiter and a header, such as CSV and TSV.

use std::io::{self, Read};

use csv::ByteRecord;

use crate::columns::{Column, ColumnNames, Positions};
use crate::dialect::Dialect;
use crate::error::{ProblemKind, RowProblem, TableError, shown};
use crate::genres::GenresField;
use crate::quotes::QuoteWatch;
use crate::row::Row;
use crate::source::foreign;

pub(crate) struct Delimited {
    name: String,
    reader: csv::Reader<QuoteWatch<Box<dyn Read + Send>>>,
    positions: Positions,
    width: usize,
    record: ByteRecord,
}

impl Delimited {
    /// Reads the header. `bytes` begin after the preamble of the dialect.
    pub(crate) fn open(
        name: &str,
        bytes: Box<dyn Read + Send>,
        dialect: &Dialect,
        names: &ColumnNames,
    ) -> Result<Self, TableError> {
        let first_line = if dialect.preamble > 0 { 2 } else { 1 };
        let grammar = dialect.grammar;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(grammar.delimiter)
            .escape(grammar.backslash.then_some(b'\\'))
            .flexible(true)
            .buffer_capacity(64 << 10)
            .from_reader(QuoteWatch::new(bytes, grammar, first_line));
        let header = reader.byte_headers().map_err(|error| csv_error(name, error))?.clone();
        if let Some(line) = reader.get_ref().open_quote() {
            return Err(open_quote(name, line));
        }
        if header.is_empty() {
            let wanted = &names.overview;
            return Err(TableError::invalid(
                name,
                format!("expected a header with the column {wanted:?}, found an empty file"),
            ));
        }
        let line = reader.get_mut().line_at(0);
        let invalid = |reason: String| TableError::invalid(name, format!("line {line}: {reason}"));
        let text = |field| {
            std::str::from_utf8(field)
                .map(str::to_owned)
                .map_err(|_| invalid(format!("header: {}", foreign::encoding_advice(field, name))))
        };
        let fields = header.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let positions = names.positions(&fields).map_err(invalid)?;
        let (name, width) = (name.to_owned(), header.len());
        Ok(Self { name, reader, positions, width, record: ByteRecord::new() })
    }

    pub(crate) fn next_row(&mut self) -> Result<Option<Result<Row, RowProblem>>, TableError> {
        let is_row = self.reader.read_byte_record(&mut self.record);
        let is_row = is_row.map_err(|error| csv_error(&self.name, error))?;
        // The last row would hold every row after the quote.
        if let Some(line) = self.reader.get_ref().open_quote() {
            return Err(open_quote(&self.name, line));
        }
        if !is_row {
            return Ok(None);
        }
        let offset = self.record.position().map_or(0, csv::Position::byte);
        let line = self.reader.get_mut().line_at(offset);
        Ok(Some(self.row(line)))
    }

    fn row(&self, line: u64) -> Result<Row, RowProblem> {
        let problem = |kind, reason| RowProblem { line, kind, reason };
        if self.record.len() > self.width {
            let mut extra = self.record.iter().skip(self.width);
            if let Some(field) = extra.find(|field| !field.trim_ascii().is_empty()) {
                let (width, found) = (self.width, self.record.len());
                let field = shown(&String::from_utf8_lossy(field));
                return Err(problem(
                    ProblemKind::ExtraFields,
                    format!(
                        "expected {width} fields as in the header, found {found}, of which {field} is extra"
                    ),
                ));
            }
        }
        let text = |column: Column| -> Result<Option<String>, RowProblem> {
            let place = self.positions[column as usize];
            let field = place.and_then(|place| self.record.get(place)).filter(|field| !field.is_empty());
            let Some(field) = field else { return Ok(None) };
            match std::str::from_utf8(field) {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(problem(ProblemKind::NotUtf8, foreign::encoding_advice(field, &self.name))),
            }
        };
        Row {
            line,
            id: text(Column::Id)?,
            title: text(Column::Title)?,
            overview: text(Column::Overview)?,
            genres: text(Column::Genres)?.filter(|text| !text.trim().is_empty()).map(GenresField::Text),
            // Unlike a table without the column, an empty field counts as an unknown language.
            language: text(Column::Language)?
                .or_else(|| self.positions[Column::Language as usize].map(|_| String::new())),
        }
        .checked()
    }
}

fn open_quote(name: &str, line: u64) -> TableError {
    let reason = format!("expected a closing quote for line {line}, found the end of the file");
    TableError::invalid(name, reason)
}

fn csv_error(name: &str, error: csv::Error) -> TableError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => TableError::reading(name, error),
        kind => TableError::reading(name, io::Error::other(format!("{kind:?}"))),
    }
}
