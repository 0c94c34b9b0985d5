//! The report of `prepare`: which rows were kept, and why the others were dropped.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use genre_model::LabelSet;
use serde::Serialize;

use crate::{Movie, Split};

/// Dropped rows shown for each reason.
const EXAMPLES: usize = 3;
/// Languages counted separately; no real data set has as many.
const MAX_LANGUAGES: usize = 300;
/// Languages shown in the text report.
const SHOWN_LANGUAGES: usize = 6;

/// Why a row is not a usable movie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The `id` field holds no decimal number, because a broken row shifted the columns.
    Shifted,
    /// A field that is read is not UTF-8.
    NotUtf8,
    /// The overview is blank.
    NoOverview,
    /// The genres are not in the expected form.
    UnreadableGenres,
    /// The movie has no genre of the label set.
    NoKnownGenre,
    /// An earlier movie with this id was kept.
    DuplicateId,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shifted => "shifted columns: the id is not a number",
            Self::NotUtf8 => "not UTF-8",
            Self::NoOverview => "no overview",
            Self::UnreadableGenres => "genres not in the expected form",
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
    /// Kept movies of each original language; empty if the table has no such column.
    pub languages: BTreeMap<String, u64>,
}

impl IngestReport {
    pub(crate) fn new(input: String, labels: &LabelSet) -> Self {
        let labels = labels.names().map(|name| LabelCount { label: name.to_owned(), movies: 0 }).collect();
        let splits = Split::ALL.into_iter().map(|split| (split, 0)).collect();
        Self { input, rows: 0, kept: 0, dropped: BTreeMap::new(), splits, labels, languages: BTreeMap::new() }
    }

    pub(crate) fn keep(&mut self, movie: &Movie, language: Option<&str>) {
        self.rows += 1;
        self.kept += 1;
        if let Some(language) = language {
            let language = if language.is_empty() { "unknown" } else { language };
            // A broken table can have as many languages as rows.
            let is_room = self.languages.len() < MAX_LANGUAGES || self.languages.contains_key(language);
            let name: String =
                if is_room { language.chars().take(12).collect() } else { "others".to_owned() };
            *self.languages.entry(name).or_default() += 1;
        }
        *self.splits.entry(Split::of(movie.id)).or_default() += 1;
        for label in movie.labels.indices() {
            self.labels[label].movies += 1;
        }
    }

    pub(crate) fn drop_row(&mut self, reason: DropReason, line: u64, id: &str) {
        self.rows += 1;
        let dropped = self.dropped.entry(reason).or_default();
        dropped.rows += 1;
        if dropped.examples.len() < EXAMPLES {
            dropped.examples.push(DroppedRow { line, id: id.chars().take(40).collect() });
        }
    }
}

impl fmt::Display for IngestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = table(["rows", "", "for example"]);
        rows.add_row([self.rows.to_string(), format!("read from {}", self.input), String::new()]);
        rows.add_row([self.kept.to_string(), "kept".to_owned(), String::new()]);
        for (reason, dropped) in &self.dropped {
            let example = |row: &DroppedRow| format!("line {} (id {:?})", row.line, row.id);
            let examples: Vec<String> = dropped.examples.iter().map(example).collect();
            rows.add_row([dropped.rows.to_string(), format!("dropped, {reason}"), examples.join(", ")]);
        }
        let mut movies = table(["movies", ""]);
        for (split, count) in &self.splits {
            movies.add_row([count.to_string(), split.to_string()]);
        }
        for count in &self.labels {
            movies.add_row([count.movies.to_string(), count.label.clone()]);
        }
        write!(f, "{rows}\n\n{movies}")?;
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

fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
