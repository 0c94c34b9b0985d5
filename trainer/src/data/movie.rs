//! A usable movie, and a digest over many.

use genre_model::GenreSet;
use sha2::{Digest as _, Sha256};

/// A movie with an overview and at least one genre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movie {
    /// TMDB id, at most `i64::MAX`.
    pub id: u64,
    /// May be empty.
    pub title: String,
    /// Never blank.
    pub overview: String,
    /// Never empty.
    pub genres: GenreSet,
}

/// SHA-256 over movies in order: ids, titles, overviews and labels. Each field is preceded by its
/// length, so different lists of movies never hash the same bytes.
#[derive(Debug, Clone, Default)]
pub struct DataDigest(Sha256);

impl DataDigest {
    /// Adds the next movie.
    pub fn add(&mut self, movie: &Movie) {
        self.field(&movie.id.to_string());
        self.field(&movie.title);
        self.field(&movie.overview);
        self.0.update((movie.genres.names().count() as u64).to_le_bytes());
        movie.genres.names().for_each(|name| self.field(name));
    }

    fn field(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    /// Returns the digest as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(movies: &[(&str, &str)]) -> String {
        let mut digest = DataDigest::default();
        for (title, overview) in movies {
            let (title, overview) = ((*title).to_owned(), (*overview).to_owned());
            digest.add(&Movie { id: 1, title, overview, genres: GenreSet::EMPTY });
        }
        digest.finish()
    }

    #[test]
    fn a_letter_moved_between_fields_changes_the_digest() {
        assert_eq!(digest(&[("ab", "c")]), digest(&[("ab", "c")]));
        assert_ne!(digest(&[("ab", "c")]), digest(&[("a", "bc")]));
        assert_ne!(digest(&[("a", "b"), ("c", "d")]), digest(&[("c", "d"), ("a", "b")]));
    }
}
