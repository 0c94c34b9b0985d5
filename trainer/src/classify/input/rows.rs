//! The rows of one table of any form.

use std::fs::File;
use std::path::Path;

use movie_table::{Row, Source, TableOptions, TableReader};

use crate::classify::input::InputError;
use crate::classify::input::parquet_rows::{ParquetRows, is_parquet};
use crate::classify::input::row::{InputRow, input_row};

/// Rows in order, until the first error.
pub(super) type Rows = Box<dyn Iterator<Item = Result<InputRow, InputError>>>;

/// Opens a table at its first row.
pub(super) fn open(table: &Source, options: &TableOptions) -> Result<Rows, InputError> {
    let file = match table {
        Source::Path(path) => File::open(path).ok(),
        Source::Spooled { file, .. } => file.try_clone().ok(),
        Source::Stdin => None,
    };
    if let Some(file) = file.filter(is_parquet) {
        return Ok(Box::new(ParquetRows::open(Path::new(&table.name()), file, options)?));
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
