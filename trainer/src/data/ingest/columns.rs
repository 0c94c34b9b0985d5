//! The columns of a table of movies: Kaggle's, or those that the command line names.

use std::fmt;

use genre_model::GenreSet;
use serde_json::Value;

use crate::data::ingest::genres_literal::{self, UnreadableGenres};

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
}

impl Default for Columns {
    fn default() -> Self {
        let [id, title, overview, genres] = ["id", "title", "overview", "genres"].map(str::to_owned);
        Self { id, title, overview, genres, genres_format: GenresFormat::Python }
    }
}

impl GenresFormat {
    /// Reads a field. Genres other than the twenty are ignored.
    pub(crate) fn parse(self, field: &str) -> Result<GenreSet, UnreadableGenres> {
        match self {
            Self::Python => genres_literal::parse(field),
            Self::Json => json(field),
            Self::Pipe => {
                let mut genres = GenreSet::EMPTY;
                field.split('|').for_each(|name| {
                    genres.insert_name(name.trim());
                });
                Ok(genres)
            }
        }
    }
}

impl fmt::Display for GenresFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::write_value_name(self, f)
    }
}

fn json(field: &str) -> Result<GenreSet, UnreadableGenres> {
    let Ok(value) = serde_json::from_str(field) else { return Err(UnreadableGenres::Syntax) };
    let Value::Array(entries) = value else { return Err(UnreadableGenres::NotAList) };
    let mut genres = GenreSet::EMPTY;
    for entry in &entries {
        let id = entry.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        match (id, entry.as_str().or_else(|| entry.get("name").and_then(Value::as_str))) {
            (Some(id), _) => genres.insert_tmdb_id(id),
            (None, Some(name)) => genres.insert_name(name.trim()),
            (None, None) => false,
        };
    }
    Ok(genres)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(format: GenresFormat, field: &str) -> Vec<&'static str> {
        format.parse(field).unwrap().names().collect()
    }

    #[test]
    fn reads_the_known_genres_of_each_form() {
        assert_eq!(names(GenresFormat::Python, "[{'id': 18, 'name': 'Drama'}]"), ["Drama"]);
        assert_eq!(names(GenresFormat::Pipe, "Drama| Science Fiction |Sport"), ["Drama", "Science Fiction"]);
        assert_eq!(names(GenresFormat::Pipe, ""), [] as [&str; 0]);
        let json = r#"["War", {"id": 18}, {"name": "Comedy"}, {"id": 1}, 7, null]"#;
        assert_eq!(names(GenresFormat::Json, json), ["Comedy", "Drama", "War"]);
        assert_eq!(GenresFormat::Json.parse("{'id': 18}"), Err(UnreadableGenres::Syntax));
        assert_eq!(GenresFormat::Json.parse("{}"), Err(UnreadableGenres::NotAList));
        assert_eq!(GenresFormat::Json.parse(&"[".repeat(100_000)), Err(UnreadableGenres::Syntax));
    }
}
