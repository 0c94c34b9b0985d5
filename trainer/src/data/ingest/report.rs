//! The report of `prepare`: which rows were kept, and why the others were dropped.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use genre_model::LabelSet;
use movie_table::Genre;
use serde::Serialize;

use crate::{Movie, Split};

/// Dropped rows shown for each reason.
const EXAMPLES: usize = 3;
/// Languages, and unknown genres, counted separately. A broken table can have as many as rows.
const MAX_NAMES: usize = 1000;
/// Unknown genres shown in the text report.
const SHOWN_GENRES: usize = 20;
/// Languages shown in the text report.
const SHOWN_LANGUAGES: usize = 6;

/// Why a row is not a usable movie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The id is not a whole number, such as in a broken row with shifted columns.
    InvalidId,
    /// A field that is read is not UTF-8.
    NotUtf8,
    /// The row is not in the form of the table.
    Malformed,
    /// The row has more fields than the header.
    ExtraFields,
    /// The title or the overview is too long.
    TextTooLong,
    /// The overview is absent or blank.
    NoOverview,
    /// The overview is a placeholder, such as `nan`.
    PlaceholderOverview,
    /// The genres are not in the expected form.
    UnreadableGenres,
    /// The movie has no genres.
    NoGenres,
    /// The movie has no genre of the label set.
    NoKnownGenre,
    /// An earlier movie with this id was kept.
    DuplicateId,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidId => "the id is not a whole number",
            Self::NotUtf8 => "not UTF-8",
            Self::Malformed => "not in the form of the table",
            Self::ExtraFields => "more fields than the header",
            Self::TextTooLong => "text too long",
            Self::NoOverview => "no overview",
            Self::PlaceholderOverview => "placeholder instead of an overview",
            Self::UnreadableGenres => "genres not in the expected form",
            Self::NoGenres => "no genres",
            Self::NoKnownGenre => "no genre of the label set",
            Self::DuplicateId => "duplicate id: the first movie is kept",
        })
    }
}

/// One dropped row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedRow {
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// The content of its `id` field, at most 40 characters.
    pub id: String,
    /// What was found, if that says more than the reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub found: String,
}

impl fmt::Display for DroppedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, id, found } = self;
        write!(f, "line {line}")?;
        // An invalid id is shown as what was found.
        if !id.is_empty() && !found.contains(id) {
            write!(f, ", id {id}")?;
        }
        if found.is_empty() { Ok(()) } else { write!(f, ": {found}") }
    }
}

/// The rows dropped for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Number of rows.
    pub rows: u64,
    /// The first few.
    pub examples: Vec<DroppedRow>,
}

/// The number of movies with a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelCount {
    /// The label's name.
    pub label: String,
    /// Movies with the label.
    pub movies: u64,
}

/// The outcome for each row of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IngestReport {
    /// The file.
    pub input: String,
    /// Rows read, without the header.
    pub rows: u64,
    /// Rows that are usable movies.
    pub kept: u64,
    /// The other rows, by reason.
    pub dropped: BTreeMap<DropReason, Dropped>,
    /// Movies of each split.
    pub splits: BTreeMap<Split, u64>,
    /// Movies of each label, in label order.
    pub labels: Vec<LabelCount>,
    /// Kept movies without a title.
    pub without_title: u64,
    /// Names or ids of genres that are no label, with how often they were found, also in kept
    /// movies.
    pub unknown_genres: BTreeMap<String, u64>,
    /// Kept movies of each original language; empty if the table has no such column.
    pub languages: BTreeMap<String, u64>,
}

impl IngestReport {
    pub(crate) fn new(input: String, labels: &LabelSet) -> Self {
        let labels = labels.names().map(|name| LabelCount { label: name.to_owned(), movies: 0 }).collect();
        let splits = Split::ALL.into_iter().map(|split| (split, 0)).collect();
        Self {
            input,
            rows: 0,
            kept: 0,
            dropped: BTreeMap::new(),
            splits,
            labels,
            without_title: 0,
            unknown_genres: BTreeMap::new(),
            languages: BTreeMap::new(),
        }
    }

    pub(crate) fn keep(&mut self, movie: &Movie, language: Option<&str>) {
        self.rows += 1;
        self.kept += 1;
        self.without_title += u64::from(movie.title.is_empty());
        if let Some(language) = language {
            count(&mut self.languages, language.chars().take(12).collect());
        }
        *self.splits.entry(Split::of(movie.id)).or_default() += 1;
        for label in movie.labels.indices() {
            self.labels[label].movies += 1;
        }
    }

    pub(crate) fn unknown_genre(&mut self, genre: &Genre) {
        count(&mut self.unknown_genres, genre.to_string().chars().take(60).collect());
    }

    /// Lists the unknown genres with their counts, the most frequent first.
    pub(crate) fn unknown(&self) -> String {
        let mut genres: Vec<_> = self.unknown_genres.iter().collect();
        genres.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let more = if genres.len() > SHOWN_GENRES { ", …" } else { "" };
        let shown = genres.iter().take(SHOWN_GENRES).map(|(name, count)| format!("{name} ({count})"));
        shown.collect::<Vec<_>>().join(", ") + more
    }

    pub(crate) fn drop_row(&mut self, reason: DropReason, line: u64, id: &str, found: &str) {
        self.rows += 1;
        let dropped = self.dropped.entry(reason).or_default();
        dropped.rows += 1;
        if dropped.examples.len() < EXAMPLES {
            let found = found.chars().take(240).collect();
            dropped.examples.push(DroppedRow { line, id: id.chars().take(40).collect(), found });
        }
    }
}

impl fmt::Display for IngestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = table(["rows", "", "for example"]);
        rows.add_row([self.rows.to_string(), format!("read from {}", self.input), String::new()]);
        rows.add_row([self.kept.to_string(), "kept".to_owned(), String::new()]);
        for (reason, dropped) in &self.dropped {
            let examples: Vec<String> = dropped.examples.iter().map(DroppedRow::to_string).collect();
            rows.add_row([dropped.rows.to_string(), format!("dropped, {reason}"), examples.join("; ")]);
        }
        let mut movies = table(["movies", ""]);
        for (split, count) in &self.splits {
            movies.add_row([count.to_string(), split.to_string()]);
        }
        for count in &self.labels {
            movies.add_row([count.movies.to_string(), count.label.clone()]);
        }
        if self.without_title > 0 {
            movies.add_row([self.without_title.to_string(), "without a title".to_owned()]);
        }
        write!(f, "{rows}\n\n{movies}")?;
        if !self.unknown_genres.is_empty() {
            write!(f, "\n\nunknown genres, which are no labels: {}", self.unknown())?;
        }
        let mut languages: Vec<_> = self.languages.iter().collect();
        languages.sort_by_key(|(_, movies)| std::cmp::Reverse(**movies));
        let share = |movies: &u64| 100.0 * *movies as f64 / self.kept.max(1) as f64;
        let shares = languages
            .iter()
            .take(SHOWN_LANGUAGES)
            .map(|(name, movies)| format!("{name} {:.1} %", share(movies)));
        let shares = shares.collect::<Vec<_>>().join(", ");
        if shares.is_empty() { Ok(()) } else { write!(f, "\n\noriginal language: {shares}") }
    }
}

/// Counts a name, or `others` once there are too many.
fn count(names: &mut BTreeMap<String, u64>, name: String) {
    let is_room = names.len() < MAX_NAMES || names.contains_key(&name);
    *names.entry(if is_room { name } else { "others".to_owned() }).or_default() += 1;
}

fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
