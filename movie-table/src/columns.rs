//! The columns of a table, found by name.

use crate::error::shown;

/// The endings of files that are tables, without those of their packing.
const ENDINGS: [&str; 7] = ["csv", "tsv", "tab", "jsonl", "ndjson", "json", "txt"];

/// Whether a file with this name is a table, by its ending: `.csv`, `.tsv`, `.jsonl` and the like,
/// also followed by `.gz` or `.zip`.
#[must_use]
pub fn is_table_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zip")).unwrap_or(&name);
    name.rsplit_once('.').is_some_and(|(stem, ending)| !stem.is_empty() && ENDINGS.contains(&ending))
}

/// The names of the columns or keys that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnNames {
    /// Ids.
    pub id: String,
    /// Titles; with an empty name, the movies have none.
    pub title: String,
    /// Overviews.
    pub overview: String,
    /// Genres.
    pub genres: String,
    /// Whether a table without the columns of ids, titles and genres is rejected.
    pub all_required: bool,
}

impl Default for ColumnNames {
    fn default() -> Self {
        let [id, title, overview, genres] = ["id", "title", "overview", "genres"].map(str::to_owned);
        Self { id, title, overview, genres, all_required: false }
    }
}

/// The fields that are read, in the order of [`Positions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Id,
    Title,
    Overview,
    Genres,
    /// The original language, which is only counted.
    Language,
}

impl Column {
    pub(crate) const ALL: [Self; 5] = [Self::Id, Self::Title, Self::Overview, Self::Genres, Self::Language];
}

/// The place of each column in a row.
pub(crate) type Positions = [Option<usize>; Column::ALL.len()];

impl ColumnNames {
    pub(crate) fn name(&self, column: Column) -> &str {
        match column {
            Column::Id => &self.id,
            Column::Title => &self.title,
            Column::Overview => &self.overview,
            Column::Genres => &self.genres,
            Column::Language => "original_language",
        }
    }

    fn is_required(&self, column: Column) -> bool {
        match column {
            Column::Overview => true,
            Column::Language => false,
            Column::Title => self.all_required && !self.title.trim().is_empty(),
            Column::Id | Column::Genres => self.all_required,
        }
    }

    /// Returns the column of a key of a JSON object.
    pub(crate) fn of_key(&self, key: &str) -> Option<Column> {
        Column::ALL.into_iter().find(|column| is_same(self.name(*column), key))
    }

    /// Returns how many of the columns a header has.
    pub(crate) fn found_in(&self, header: &[String]) -> usize {
        let is_there = |column: &Column| header.iter().any(|name| is_same(self.name(*column), name));
        Column::ALL.iter().filter(|column| is_there(column)).count()
    }

    /// Finds the columns in a header.
    pub(crate) fn positions(&self, header: &[String]) -> Result<Positions, String> {
        let mut positions = Positions::default();
        for (position, column) in positions.iter_mut().zip(Column::ALL) {
            let name = self.name(column).trim();
            let found = places_of(name, header);
            match found[..] {
                [] if self.is_required(column) => {
                    let found = shown(&header.join(","));
                    return Err(format!("expected a header with the column {name:?}, found {found}"));
                }
                [] => {}
                [place] => *position = Some(place),
                _ => {
                    let count = found.len();
                    return Err(format!("expected one column {name:?} in the header, found {count}"));
                }
            }
        }
        Ok(positions)
    }
}

/// Returns the places of a column in a header: those of its exact name, or else those in another case.
/// White space around names does not count, and an empty name is no column.
pub fn places_of(name: &str, header: &[impl AsRef<str>]) -> Vec<usize> {
    let places = |is_it: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..header.len()).filter(|place| is_it(header[*place].as_ref().trim())).collect()
    };
    let name = name.trim();
    let exact = places(&|found| !name.is_empty() && found == name);
    if exact.is_empty() { places(&|found| is_same(name, found)) } else { exact }
}

/// Compares names in any case, without white space around them. An empty name is no column.
fn is_same(wanted: &str, found: &str) -> bool {
    let (wanted, found) = (wanted.trim(), found.trim());
    !wanted.is_empty() && (wanted == found || wanted.to_lowercase() == found.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(header: &str) -> Result<Positions, String> {
        let header: Vec<String> = header.split(',').map(str::to_owned).collect();
        ColumnNames { all_required: true, ..ColumnNames::default() }.positions(&header)
    }

    #[test]
    fn finds_columns_in_any_case_and_with_white_space() {
        let expected = Ok([Some(1), Some(0), Some(2), Some(3), None]);
        assert_eq!(positions(" Title,ID, OVERVIEW\t,genres"), expected);
        assert_eq!(positions("title,id,overview,genres,Overview"), expected, "the exact name");
    }

    #[test]
    fn rejects_a_missing_and_a_duplicate_column() {
        let message = positions("id,title,plot,genres").unwrap_err();
        assert!(message.contains("the column \"overview\", found \"id,title,plot,genres\""), "{message}");
        for header in ["id,title,overview,genres, overview", "Id,title,overview,genres,ID"] {
            let message = positions(header).unwrap_err();
            assert!(message.contains("expected one column") && message.ends_with("found 2"), "{message}");
        }
    }

    #[test]
    fn an_empty_title_name_means_no_titles() {
        let names = ColumnNames { title: String::new(), all_required: true, ..ColumnNames::default() };
        let header = ["id", "overview", "genres", ""].map(str::to_owned);
        assert_eq!(names.positions(&header), Ok([Some(0), None, Some(1), Some(2), None]));
    }

    #[test]
    fn knows_tables_by_their_endings() {
        for name in ["a.csv", "a.CSV", "a.csv.gz", "b.jsonl.ZIP", "x.y.json"] {
            assert!(is_table_name(name), "{name}");
        }
        for name in ["csv", ".csv", "a.parquet", "a.gz", "README"] {
            assert!(!is_table_name(name), "{name}");
        }
    }
}
