//! A usable movie, and a digest over many.

use genre_model::{LabelSet, MovieLabels, nfc};
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_64;

/// A movie with an overview and at least one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movie {
    /// TMDB id, at most `i64::MAX`.
    pub id: u64,
    /// May be empty.
    pub title: String,
    /// Never blank.
    pub overview: String,
    /// Never empty. Indices into the label set of the source.
    pub labels: MovieLabels,
}

/// Returns a hash of the words of an overview, by which copies of it are found: those that differ
/// only in case, punctuation, spaces or Unicode form have the same hash.
#[must_use]
pub fn overview_hash(overview: &str) -> u64 {
    let overview = nfc(overview);
    let words = overview.split(|character: char| !character.is_alphanumeric());
    let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    xxh3_64(words.join(" ").as_bytes())
}

/// SHA-256 over movies in order: ids, titles, overviews and labels. Each field is preceded by its
/// length, so different lists of movies never hash the same bytes. The digest begins with the label
/// set, unless that is the built-in one: movies of different label sets never have the same digest.
#[derive(Debug, Clone)]
pub struct DataDigest {
    hash: Sha256,
    labels: LabelSet,
}

impl DataDigest {
    /// Starts the digest of movies with these labels.
    #[must_use]
    pub fn new(labels: LabelSet) -> Self {
        let mut digest = Self { hash: Sha256::new(), labels };
        if !digest.labels.is_built_in() {
            let labels = digest.labels.clone();
            digest.field("label set");
            digest.count(labels.len());
            labels.names().for_each(|name| digest.field(name));
        }
        digest
    }

    /// Adds the next movie.
    pub fn add(&mut self, movie: &Movie) {
        self.field(&movie.id.to_string());
        self.field(&movie.title);
        self.field(&movie.overview);
        self.count(movie.labels.indices().len());
        let labels = self.labels.clone();
        labels.names_of(&movie.labels).for_each(|name| self.field(name));
    }

    fn field(&mut self, text: &str) {
        self.count(text.len());
        self.hash.update(text);
    }

    fn count(&mut self, count: usize) {
        self.hash.update((count as u64).to_le_bytes());
    }

    /// Returns the digest as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex::encode(self.hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(movies: &[(&str, &str)]) -> String {
        let mut digest = DataDigest::new(LabelSet::built_in());
        for (title, overview) in movies {
            let (title, overview) = ((*title).to_owned(), (*overview).to_owned());
            digest.add(&Movie { id: 1, title, overview, labels: MovieLabels::default() });
        }
        digest.finish()
    }

    #[test]
    fn movies_of_another_label_set_have_another_digest() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let digest = |labels| DataDigest::new(labels).finish();
        let built_in = digest(LabelSet::built_in());
        assert_eq!(built_in, hex::encode(Sha256::digest([])));
        let (two, other) = (names(&["Billing", "Spam"]), names(&["BillingSpam"]));
        let sets = [two, other].map(|names| digest(LabelSet::of_names(&names).unwrap()));
        assert!(sets[0] != sets[1] && !sets.contains(&built_in));
    }

    #[test]
    fn copies_of_an_overview_have_one_hash() {
        let hashes = ["A storm, a ship.", "a  storm — a SHIP", "a storm a ship!"].map(overview_hash);
        assert!(hashes.iter().all(|hash| *hash == hashes[0]));
        assert_eq!(overview_hash("caf\u{e9}"), overview_hash("cafe\u{301}"));
        assert_ne!(overview_hash("a storm a ship"), overview_hash("a ship a storm"));
        assert_ne!(overview_hash("ab c"), overview_hash("a bc"));
    }

    #[test]
    fn a_letter_moved_between_fields_changes_the_digest() {
        assert_eq!(digest(&[("ab", "c")]), digest(&[("ab", "c")]));
        assert_ne!(digest(&[("ab", "c")]), digest(&[("a", "bc")]));
        assert_ne!(digest(&[("a", "b"), ("c", "d")]), digest(&[("c", "d"), ("a", "b")]));
    }
}
