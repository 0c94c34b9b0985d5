//! The columns of a table of movies: Kaggle's, or those that the command line names.

use std::fmt;

use genre_model::LabelSet;
use serde_json::Value;

use crate::data::ingest::genres_literal::{self, UnreadableGenres};
use crate::data::ingest::written_genre::WrittenGenre;

/// The form of a genres field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum GenresFormat {
    /// A Python list of dictionaries with TMDB ids, as in Kaggle's file
    #[default]
    Python,
    /// A JSON list of names, or of objects with a TMDB `id` or a `name`
    Json,
    /// Names separated by `|`
    Pipe,
}

/// The names of the columns that are read, and the form of the genres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// Whole numbers, which decide the split.
    pub id: String,
    /// Titles, which may be empty.
    pub title: String,
    /// Overviews, which must not be blank.
    pub overview: String,
    /// Genres, which are the labels.
    pub genres: String,
    /// The form of the genres.
    pub genres_format: GenresFormat,
    /// The labels that genres become. Other genres are ignored.
    pub labels: LabelSet,
}

impl Default for Columns {
    fn default() -> Self {
        let [id, title, overview, genres] = ["id", "title", "overview", "genres"].map(str::to_owned);
        let genres_format = GenresFormat::Python;
        Self { id, title, overview, genres, genres_format, labels: LabelSet::built_in() }
    }
}

impl GenresFormat {
    /// Reads a field.
    pub(crate) fn parse(self, field: &str) -> Result<Vec<WrittenGenre>, UnreadableGenres> {
        match self {
            Self::Python => genres_literal::parse(field),
            Self::Json => json(field),
            Self::Pipe => Ok(field.split('|').map(WrittenGenre::named).collect()),
        }
    }
}

impl fmt::Display for GenresFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::write_value_name(self, f)
    }
}

fn json(field: &str) -> Result<Vec<WrittenGenre>, UnreadableGenres> {
    let Ok(value) = serde_json::from_str(field) else { return Err(UnreadableGenres::Syntax) };
    let Value::Array(entries) = value else { return Err(UnreadableGenres::NotAList) };
    let genre = |entry: &Value| {
        let name = entry.as_str().or_else(|| entry.get("name").and_then(Value::as_str));
        WrittenGenre {
            id: entry.get("id").and_then(Value::as_u64),
            ..name.map(WrittenGenre::named).unwrap_or_default()
        }
    };
    Ok(entries.iter().map(genre).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(format: GenresFormat, field: &str) -> Vec<String> {
        let (set, mut labels) = (LabelSet::built_in(), genre_model::MovieLabels::default());
        let found = format.parse(field).unwrap();
        found.iter().filter_map(|genre| genre.label(&set)).for_each(|label| labels.insert(label));
        set.names_of(&labels).map(str::to_owned).collect()
    }

    #[test]
    fn reads_the_known_genres_of_each_form() {
        assert_eq!(names(GenresFormat::Python, "[{'id': 18, 'name': 'Drama'}]"), ["Drama"]);
        assert_eq!(names(GenresFormat::Pipe, "Drama| Science Fiction |Sport"), ["Drama", "Science Fiction"]);
        assert_eq!(names(GenresFormat::Pipe, "drama|Sci-Fi"), ["Drama", "Science Fiction"]);
        assert_eq!(names(GenresFormat::Pipe, ""), [""; 0]);
        let json = r#"["War", {"id": 18}, {"name": "Comedy"}, {"id": 1}, 7, null]"#;
        assert_eq!(names(GenresFormat::Json, json), ["Comedy", "Drama", "War"]);
        let by_name = r#"[{"id": 7, "name": "War"}]"#;
        assert_eq!(names(GenresFormat::Json, by_name), ["War"]);
        assert_eq!(GenresFormat::Json.parse("{'id': 18}"), Err(UnreadableGenres::Syntax));
        assert_eq!(GenresFormat::Json.parse("{}"), Err(UnreadableGenres::NotAList));
        assert_eq!(GenresFormat::Json.parse(&"[".repeat(100_000)), Err(UnreadableGenres::Syntax));
    }
}
