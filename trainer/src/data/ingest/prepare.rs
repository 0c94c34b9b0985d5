//! Turns a table of movies into the table of usable movies, and reports the rows that were dropped.

use std::path::Path;

use genre_model::write_atomically;
use movie_table::Source;

use crate::FileError;
use crate::data::ingest::reader::{IngestError, IngestOptions, MovieReader};
use crate::data::ingest::report::IngestReport;
use crate::data::movies_file::MoviesWriter;
use crate::data::table_file::TableError;

/// Why no table was written.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The movies cannot be read.
    #[error(transparent)]
    Input(#[from] IngestError),
    /// The table cannot be written.
    #[error("movies file {0}")]
    Output(#[from] TableError),
    /// The report cannot be written.
    #[error("report {0}")]
    Report(#[from] FileError),
}

/// Reads `input` and writes its usable movies to `output`, which appears only on success. Writes
/// the report to `report` as JSON.
pub fn run(
    input: &Source,
    options: &IngestOptions,
    output: &Path,
    report: Option<&Path>,
) -> Result<IngestReport, PrepareError> {
    let mut reader = MovieReader::open(input, options)?;
    let mut writer = MoviesWriter::create(output, options.labels.clone())?;
    for movie in reader.by_ref() {
        writer.write(movie?)?;
    }
    writer.finish()?;
    let found = reader.report();
    if let Some(path) = report {
        let json = serde_json::to_vec_pretty(found).expect("texts and numbers are JSON");
        write_atomically(path, &json).map_err(FileError::at(path))?;
    }
    Ok(found.clone())
}
