//! The reader of Kaggle's `movies_metadata.csv` and of tables with other columns.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use genre_model::{LabelSet, MovieLabels};

use crate::data::ingest::columns::{Columns, GenresFormat};
use crate::data::ingest::input::{self, Input};
use crate::data::ingest::quote_watch::QuoteWatch;
use crate::data::ingest::written_genre::WrittenGenre;
use crate::{DropReason, FileError, IngestReport, Movie};

/// Why a file cannot be read as movies. A bad row is not an error: it is dropped and reported.
#[derive(Debug, thiserror::Error)]
pub enum KaggleError {
    /// The file cannot be opened or read.
    #[error("movies file {0}")]
    Io(#[from] FileError),
    /// The file is not a table of movies.
    #[error("movies file {path}: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

/// The positions of the columns that are read.
#[derive(Debug)]
struct Positions {
    id: usize,
    title: usize,
    overview: usize,
    genres: usize,
    genres_format: GenresFormat,
    /// The original language, which is only counted.
    language: Option<usize>,
}

/// A row with an id, an overview and readable genres.
struct Row<'a> {
    id: u64,
    title: &'a str,
    overview: &'a str,
    genres: Vec<WrittenGenre>,
}

/// Reads movies one by one, in the order of the file. Memory grows only with the ids seen.
///
/// Yields the usable movies. After the last, [`report`](Self::report) covers all rows.
#[derive(Debug)]
pub struct KaggleReader {
    path: PathBuf,
    reader: csv::Reader<QuoteWatch<Input>>,
    columns: Positions,
    labels: LabelSet,
    record: ByteRecord,
    seen: HashSet<u64>,
    report: IngestReport,
    finished: bool,
}

impl KaggleReader {
    /// Opens a file and finds its columns by the names in its header.
    pub fn open(path: &Path) -> Result<Self, KaggleError> {
        Self::open_with(path, &Columns::default())
    }

    /// As [`open`](Self::open), for other column names or another form of genres.
    pub fn open_with(path: &Path, names: &Columns) -> Result<Self, KaggleError> {
        let invalid = |reason| KaggleError::Invalid { path: path.to_owned(), reason };
        let input = input::open(path).map_err(FileError::at(path))?;
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(QuoteWatch::new(input));
        let header = reader.byte_headers().map_err(|error| csv_error(path, error))?;
        let columns = Positions::find(header, names).map_err(invalid)?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            columns,
            labels: names.labels.clone(),
            record: ByteRecord::new(),
            seen: HashSet::new(),
            report: IngestReport::new(path.display().to_string(), &names.labels),
            finished: false,
        })
    }

    /// Returns the report on the rows read so far.
    #[must_use]
    pub fn report(&self) -> &IngestReport {
        &self.report
    }

    /// Reads all rows and passes the genres of each that has an id, an overview and readable
    /// genres to `take`, whatever the label set.
    pub(crate) fn each_genres(
        mut self,
        mut take: impl FnMut(Vec<WrittenGenre>) -> Result<(), String>,
    ) -> Result<(), KaggleError> {
        while self.next_record()? {
            let Ok(row) = self.columns.row(&self.record) else { continue };
            if self.seen.insert(row.id) {
                take(row.genres)
                    .map_err(|reason| KaggleError::Invalid { path: self.path.clone(), reason })?;
            }
        }
        self.check_quotes()
    }

    fn next_record(&mut self) -> Result<bool, KaggleError> {
        self.reader.read_byte_record(&mut self.record).map_err(|error| csv_error(&self.path, error))
    }

    fn check_quotes(&self) -> Result<(), KaggleError> {
        let Some(line) = self.reader.get_ref().open_quote() else { return Ok(()) };
        let reason = format!("expected a closing quote for line {line}, found the end of the file");
        Err(KaggleError::Invalid { path: self.path.clone(), reason })
    }

    fn read(&mut self) -> Result<Option<Movie>, KaggleError> {
        while self.next_record()? {
            let movie = self.columns.row(&self.record).and_then(|row| row.movie(&self.labels));
            match movie {
                Ok(movie) if self.seen.insert(movie.id) => {
                    let language = self.columns.language.and_then(|column| self.record.get(column));
                    self.report.keep(&movie, language.map(String::from_utf8_lossy).as_deref());
                    return Ok(Some(movie));
                }
                Ok(_) => self.drop_row(DropReason::DuplicateId),
                Err(reason) => self.drop_row(reason),
            }
        }
        self.check_quotes()?;
        if self.report.kept == 0 {
            let reason =
                format!("expected usable movies, found none in {} rows{}", self.report.rows, self.reasons());
            return Err(KaggleError::Invalid { path: self.path.clone(), reason });
        }
        Ok(None)
    }

    fn drop_row(&mut self, reason: DropReason) {
        let line = self.record.position().map_or(0, csv::Position::line);
        let id = String::from_utf8_lossy(self.record.get(self.columns.id).unwrap_or_default());
        self.report.drop_row(reason, line, &id);
    }

    fn reasons(&self) -> String {
        let reasons = self.report.dropped.iter();
        let reasons = reasons.map(|(reason, dropped)| format!("; {} dropped, {reason}", dropped.rows));
        reasons.collect::<Vec<_>>().concat()
    }
}

impl Iterator for KaggleReader {
    type Item = Result<Movie, KaggleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let movie = self.read().transpose();
        self.finished = !matches!(movie, Some(Ok(_)));
        movie
    }
}

impl Positions {
    fn find(header: &ByteRecord, names: &Columns) -> Result<Self, String> {
        let Columns { id, title, overview, genres, genres_format, labels: _ } = names;
        if header.is_empty() {
            return Err(format!(
                "expected a CSV header with the columns {id}, {title}, {overview} and {genres}, \
                 found an empty file"
            ));
        }
        let column = |name: &str| {
            header.iter().position(|field| field == name.as_bytes()).ok_or_else(|| {
                // The first line of a binary file would not help.
                let found = std::str::from_utf8(header.as_slice()).ok().filter(|text| !text.contains('\0'));
                let fields = || header.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
                let found = found.map_or("bytes that are not text".to_owned(), |_| shorten(&fields()));
                format!("line 1: expected a CSV header with the column {name:?}, found {found}")
            })
        };
        Ok(Self {
            id: column(id)?,
            title: column(title)?,
            overview: column(overview)?,
            genres: column(genres)?,
            genres_format: *genres_format,
            language: header.iter().position(|field| field == b"original_language"),
        })
    }

    fn row<'a>(&self, record: &'a ByteRecord) -> Result<Row<'a>, DropReason> {
        let text = |column| {
            std::str::from_utf8(record.get(column).unwrap_or_default()).map_err(|_| DropReason::NotUtf8)
        };
        let id = decimal_id(record.get(self.id).unwrap_or_default()).ok_or(DropReason::Shifted)?;
        let (title, overview, genres) = (text(self.title)?, text(self.overview)?, text(self.genres)?);
        if is_no_overview(overview) {
            return Err(DropReason::NoOverview);
        }
        let genres = self.genres_format.parse(genres).map_err(|_| DropReason::UnreadableGenres)?;
        Ok(Row { id, title, overview, genres })
    }
}

impl Row<'_> {
    /// Returns the movie, with the labels that its genres become.
    fn movie(self, set: &LabelSet) -> Result<Movie, DropReason> {
        let mut labels = MovieLabels::default();
        self.genres.iter().filter_map(|genre| genre.label(set)).for_each(|label| labels.insert(label));
        if labels.is_empty() {
            return Err(DropReason::NoKnownGenre);
        }
        let (title, overview) = (self.title.to_owned(), self.overview.to_owned());
        Ok(Movie { id: self.id, title, overview, labels })
    }
}

/// Accepts digits only, and no value above the range of a signed 64-bit column.
fn decimal_id(field: &[u8]) -> Option<u64> {
    let is_decimal = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let id: u64 = std::str::from_utf8(field).ok().filter(|_| is_decimal)?.parse().ok()?;
    i64::try_from(id).ok().map(|_| id)
}

fn csv_error(path: &Path, error: csv::Error) -> KaggleError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => FileError::at(path)(source).into(),
        kind => KaggleError::Invalid { path: path.to_owned(), reason: format!("not a CSV file: {kind:?}") },
    }
}

fn shorten(text: &str) -> String {
    let short: String = text.chars().take(120).collect();
    if short.len() < text.len() { format!("{short:?} …") } else { format!("{short:?}") }
}

/// Whether an overview is blank or the placeholder of TMDB's exports, which says nothing about a
/// movie.
fn is_no_overview(overview: &str) -> bool {
    let overview = overview.trim();
    overview.is_empty() || overview == "No overview found."
}

#[cfg(test)]
mod tests;
