//! The reader of tables of movies: keeps the usable movies and reports every other row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use genre_model::{LabelSet, MovieLabels};
use movie_table::{
    ColumnNames, Genre, GenresField, GenresFormat, ProblemKind, Row, RowProblem, Source, TableOptions,
    TableReader, UnreadableGenres, is_placeholder, movie_id,
};

use crate::Movie;
use crate::data::ingest::genres;
use crate::data::ingest::report::{DropReason, IngestReport};

/// How a table is read, and which of its rows are usable.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// How the table is read.
    pub table: TableOptions,
    /// The form of the genres.
    pub genres_format: GenresFormat,
    /// The labels that genres become. Other genres are counted.
    pub labels: LabelSet,
    /// Accepts a table of which more than half of the rows are dropped for one reason.
    pub allow_loss: bool,
    /// Overviews that are kept although they are placeholders.
    pub keep_overviews: Vec<String>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        let columns = ColumnNames { all_required: true, ..ColumnNames::default() };
        Self {
            table: TableOptions { columns, ..TableOptions::default() },
            genres_format: GenresFormat::default(),
            labels: LabelSet::built_in(),
            allow_loss: false,
            keep_overviews: Vec::new(),
        }
    }
}

/// Why a table cannot be read as movies. A bad row is not an error: it is dropped and reported.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The table cannot be read.
    #[error("movies file {0}")]
    Table(#[from] movie_table::TableError),
    /// The table has no usable movies, or too few.
    #[error("movies file {name}: {reason}")]
    Unusable {
        /// The file, or `standard input`.
        name: String,
        /// The expectation, and the value found.
        reason: String,
    },
}

/// Genres that were read before, by their field. Tables repeat the same few thousand combinations,
/// and reading a Python literal costs as much as everything else about a movie.
#[derive(Default)]
struct KnownGenres(HashMap<String, Arc<[Genre]>>);

impl KnownGenres {
    /// Fields that are kept at most, and the longest of them.
    const MAX_FIELDS: usize = 4096;
    const MAX_BYTES: usize = 512;

    fn read(&mut self, field: GenresField, format: GenresFormat) -> Result<Arc<[Genre]>, UnreadableGenres> {
        let GenresField::Text(text) = &field else { return Ok(field.genres(format)?.into()) };
        if let Some(genres) = self.0.get(text) {
            return Ok(genres.clone());
        }
        let genres: Arc<[Genre]> = field.genres(format)?.into();
        if let GenresField::Text(text) = field
            && text.len() <= Self::MAX_BYTES
            && self.0.len() < Self::MAX_FIELDS
        {
            self.0.insert(text, genres.clone());
        }
        Ok(genres)
    }
}

/// Id, overview and genres of a row.
type Usable = (u64, String, Arc<[Genre]>);

/// Reads movies one by one, in the order of the table. Memory grows only with the ids seen.
///
/// Yields the usable movies. After the last, [`report`](Self::report) covers all rows.
pub struct MovieReader {
    reader: TableReader,
    options: IngestOptions,
    known_genres: KnownGenres,
    seen: HashSet<u64>,
    report: IngestReport,
    has_ended: bool,
}

impl MovieReader {
    /// Opens a table and finds its columns.
    pub fn open(source: &Source, options: &IngestOptions) -> Result<Self, IngestError> {
        let reader = TableReader::open(source, &options.table)?;
        let report = IngestReport::new(source.name(), &options.labels);
        Ok(Self {
            reader,
            options: options.clone(),
            known_genres: KnownGenres::default(),
            seen: HashSet::new(),
            report,
            has_ended: false,
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
        mut take: impl FnMut(&[Genre]) -> Result<(), String>,
    ) -> Result<(), IngestError> {
        while let Some(row) = self.reader.next() {
            let Ok(row) = row? else { continue };
            let Ok((id, _, genres)) = self.usable(row) else { continue };
            // As in `movie`, a row without genres is no movie of its id.
            if !genres.is_empty() && self.seen.insert(id) {
                let name = || self.reader.name().to_owned();
                take(&genres).map_err(|reason| IngestError::Unusable { name: name(), reason })?;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Movie>, IngestError> {
        while let Some(row) = self.reader.next() {
            let row = match row? {
                Ok(row) => row,
                Err(problem) => {
                    let RowProblem { line, kind, reason } = problem;
                    self.report.drop_row(kind.into(), line, "", &reason);
                    continue;
                }
            };
            let (line, id) = (row.line, row.id.clone().unwrap_or_default());
            match self.movie(row) {
                Ok(movie) => return Ok(Some(movie)),
                Err((reason, found)) => self.report.drop_row(reason, line, &id, &found),
            }
        }
        self.check_loss()?;
        Ok(None)
    }

    /// Returns id, overview and genres of a row, or why it is dropped and what was found.
    fn usable(&mut self, row: Row) -> Result<Usable, (DropReason, String)> {
        let id = movie_id(row.id.as_deref().unwrap_or_default())
            .map_err(|error| (DropReason::InvalidId, error.to_string()))?;
        let overview = row.overview.ok_or((DropReason::NoOverview, String::new()))?;
        let is_kept = |kept: &String| kept == overview.trim();
        if is_placeholder(&overview) && !self.options.keep_overviews.iter().any(is_kept) {
            return Err((DropReason::PlaceholderOverview, format!("found {overview:?}")));
        }
        let format = self.options.genres_format;
        let genres =
            row.genres.map_or_else(|| Ok(Arc::default()), |field| self.known_genres.read(field, format));
        let genres = genres.map_err(|error| (DropReason::UnreadableGenres, error.to_string()))?;
        Ok((id, overview, genres))
    }

    /// Returns the movie of a row, or why it is dropped and what was found.
    fn movie(&mut self, mut row: Row) -> Result<Movie, (DropReason, String)> {
        let (title, language) = (row.title.take(), row.language.take());
        let (id, overview, genres) = self.usable(row)?;
        let mut labels = MovieLabels::default();
        for genre in genres.iter() {
            match genres::label(genre, &self.options.labels) {
                Some(label) => labels.insert(label),
                None => self.report.unknown_genre(genre),
            }
        }
        if labels.is_empty() {
            let reason = if genres.is_empty() { DropReason::NoGenres } else { DropReason::NoKnownGenre };
            let names: Vec<String> = genres.iter().map(ToString::to_string).collect();
            let found = if names.is_empty() { String::new() } else { format!("found {}", names.join(", ")) };
            return Err((reason, found));
        }
        if !self.seen.insert(id) {
            return Err((DropReason::DuplicateId, String::new()));
        }
        let movie = Movie { id, title: title.unwrap_or_default(), overview, labels };
        self.report.keep(&movie, language.as_deref());
        Ok(movie)
    }

    /// Fails if no row is usable, or if most rows are dropped for one reason, which shows that the
    /// table is read in another way than it was written.
    fn check_loss(&self) -> Result<(), IngestError> {
        let IngestReport { rows, kept, .. } = self.report;
        let unusable =
            |reason: String| Err(IngestError::Unusable { name: self.reader.name().to_owned(), reason });
        if kept == 0 {
            return unusable(format!("expected usable movies, found none in {rows} rows{}", self.reasons()));
        }
        let most = self.report.dropped.values().any(|dropped| dropped.rows > rows / 2);
        if most && !self.options.allow_loss {
            return unusable(format!(
                "expected most rows to be usable movies, found {kept} in {rows}{}; --allow-loss accepts this",
                self.reasons()
            ));
        }
        Ok(())
    }

    fn reasons(&self) -> String {
        let dropped = self.report.dropped.iter().map(|(reason, dropped)| {
            let example = dropped.examples.first().map_or(String::new(), |row| format!(" ({row})"));
            format!("; {} dropped, {reason}{example}", dropped.rows)
        });
        let unknown = (!self.report.unknown_genres.is_empty())
            .then(|| format!("; unknown genres: {}", self.report.unknown()));
        dropped.chain(unknown).collect()
    }
}

impl Iterator for MovieReader {
    type Item = Result<Movie, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let movie = self.read().transpose();
        self.has_ended = !matches!(movie, Some(Ok(_)));
        movie
    }
}

impl From<ProblemKind> for DropReason {
    fn from(kind: ProblemKind) -> Self {
        match kind {
            ProblemKind::NotUtf8 => Self::NotUtf8,
            ProblemKind::Malformed => Self::Malformed,
            ProblemKind::ExtraFields => Self::ExtraFields,
            ProblemKind::TextTooLong => Self::TextTooLong,
        }
    }
}

#[cfg(test)]
mod tests;
