//! The figures of groups of movies: those with as many labels, and those of each column of a table.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;

use genre_model::GenreModel;

use crate::data::table_file::TableError;
use crate::evaluate::evaluation::{Evaluation, EvaluationError};
use crate::{FileError, SplitChoice, Vectors};

/// The column with the ids of the movies.
const ID: &str = "id";
/// Movies with this many labels or more are one group.
const MANY: usize = 5;

/// A way to group movies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// The name of the groups in the report, such as `decade`.
    pub name: String,
    /// The group of each movie, by its id. A movie without one is left out.
    pub groups: HashMap<u64, String>,
}

impl Grouping {
    /// Reads a CSV file with a column `id` and one column for each grouping, whose values are the
    /// groups. An empty value is no group. Of rows with one id the first counts, as of movies.
    ///
    /// # Errors
    /// Names the line and what was expected if the file is not such a table.
    pub fn read(path: &Path) -> Result<Vec<Self>, TableError> {
        let unreadable = |error: csv::Error| match error.into_kind() {
            csv::ErrorKind::Io(source) => FileError { path: path.to_owned(), source }.into(),
            kind => TableError::invalid(path, format!("expected a CSV file, found {kind:?}")),
        };
        let mut reader = csv::Reader::from_path(path).map_err(unreadable)?;
        let header = reader.headers().map_err(unreadable)?.clone();
        let id = header.iter().position(|name| name == ID).ok_or_else(|| {
            TableError::invalid(
                path,
                format!("expected a column {ID}, found {}", header.iter().collect::<Vec<_>>().join(", ")),
            )
        })?;
        let mut all: Vec<Self> =
            header.iter().map(|name| Self { name: name.to_owned(), groups: HashMap::new() }).collect();
        for record in reader.records() {
            let record = record.map_err(unreadable)?;
            let movie = record[id].parse().map_err(|_| {
                let line = record.position().map_or(0, csv::Position::line);
                TableError::invalid(
                    path,
                    format!("line {line}: expected the id of a movie, found {:?}", &record[id]),
                )
            })?;
            for (grouping, group) in all.iter_mut().zip(&record) {
                if !group.is_empty() {
                    grouping.groups.entry(movie).or_insert_with(|| group.to_owned());
                }
            }
        }
        all.remove(id);
        Ok(all)
    }

    /// Groups movies by how many labels they have.
    pub(super) fn by_labels(movies: &Vectors) -> Self {
        let groups = movies.ids.iter().zip(movies.targets.rows()).map(|(id, targets)| {
            let group = match targets.iter().filter(|target| **target > 0.5).count() {
                MANY.. => format!("{MANY} or more"),
                labels => labels.to_string(),
            };
            (*id, group)
        });
        Self { name: "number of labels".to_owned(), groups: groups.collect() }
    }

    /// Returns the figures of each group of `movies` as Markdown. Groups are in the order of the first
    /// number in their names, then of the alphabet.
    pub(super) fn table(&self, model: &GenreModel, movies: &Vectors) -> Result<String, EvaluationError> {
        let mut rows: BTreeMap<(u64, &str), Vec<usize>> = BTreeMap::new();
        for (row, id) in movies.ids.iter().enumerate() {
            if let Some(group) = self.groups.get(id) {
                rows.entry((first_number(group), group)).or_default().push(row);
            }
        }
        let mut text = format!(
            "| {} | movies | micro-F1 | calibration error | cross-entropy |\n|---|---:|---:|---:|---:|\n",
            self.name
        );
        for ((_, group), rows) in rows {
            let figures = Evaluation::of(model, &movies.select(&rows), SplitChoice::All)?;
            let _ = writeln!(
                text,
                "| {group} | {} | {:.4} | {:.4} | {:.4} |",
                figures.rows,
                figures.micro_f1,
                figures.expected_calibration_error,
                figures.binary_cross_entropy,
            );
        }
        Ok(text)
    }
}

/// Returns the first number in a text, or the greatest number if there is none.
fn first_number(text: &str) -> u64 {
    let from = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
    from[..end].parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::job;
    use crate::fit::preset::Preset;
    use crate::testing::vectors;
    use crate::{FittingData, MlpParams};

    fn read(content: &str) -> Result<Vec<Grouping>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        Grouping::read(file.path()).map_err(|error| error.reason())
    }

    #[test]
    fn each_column_but_the_ids_is_a_grouping() {
        let groupings = read("decade,id,length\n1990s,7,short\n,8,long\n1950s,7,\n").unwrap();
        let names: Vec<&str> = groupings.iter().map(|grouping| &*grouping.name).collect();
        assert_eq!(names, ["decade", "length"]);
        assert_eq!(groupings[0].groups, HashMap::from([(7, "1990s".to_owned())]));
        assert_eq!(groupings[1].groups.len(), 2);
    }

    #[test]
    fn a_table_of_another_form_is_rejected_with_what_was_found() {
        for (content, expected) in [
            ("movie,decade\n7,1990s\n", "expected a column id, found movie, decade"),
            ("id,decade\nseven,1990s\n", "line 2: expected the id of a movie, found \"seven\""),
            ("id,decade\n7\n", "expected a CSV file, found UnequalLengths"),
        ] {
            let error = read(content).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = Grouping::read(Path::new("no/such/file.csv")).unwrap_err();
        assert!(matches!(error, TableError::Io(_)), "{error}");
    }

    #[test]
    fn groups_are_measured_on_their_own_movies_in_the_order_of_their_numbers() {
        let all = vectors(300);
        let mut preset = Preset::reference();
        preset.network = MlpParams { units: 8, max_epochs: 2, ..preset.network };
        let model = job::fit(&FittingData::of(&all).unwrap(), &preset, |_, _| {}).unwrap();
        let group = |id: u64| if id <= 30 { "100 and more" } else { "20 to 99" };
        let groups = (1..=130).map(|id| (id, group(id).to_owned())).collect();
        let table = Grouping { name: "words".to_owned(), groups }.table(&model, &all).unwrap();
        let (short, long) =
            (table.find("| 20 to 99 | 100 |").unwrap(), table.find("| 100 and more | 30 |").unwrap());
        assert!(short < long, "{table}");
        let by_labels = Grouping::by_labels(&all);
        let movies = |labels: &str| by_labels.groups.values().filter(|group| *group == labels).count();
        assert!(movies("1") > 0 && movies("2") > 0 && movies("1") + movies("2") == 300, "{by_labels:?}");
    }
}
