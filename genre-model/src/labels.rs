//! Label sets: the labels that a model predicts, and how data sets write them.
//!
//! The built-in set is the twenty genres of TMDB, in the label order of the reference system. A
//! model file holds only the names, because aliases and ids matter only where data is read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use crate::nfc;

/// The most labels of a set. The word weights of more would not fit into a model file.
pub const MAX_LABELS: usize = 500;

/// A genre and its TMDB id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genre {
    /// The name as TMDB writes it.
    pub name: &'static str,
    /// The id in a movie's `genres` field.
    pub tmdb_id: u32,
}

const fn genre(name: &'static str, tmdb_id: u32) -> Genre {
    Genre { name, tmdb_id }
}

/// The genres of the built-in label set. A label's index is its index here.
pub const GENRES: [Genre; 20] = [
    genre("Animation", 16),
    genre("Comedy", 35),
    genre("Family", 10751),
    genre("Adventure", 12),
    genre("Fantasy", 14),
    genre("Romance", 10749),
    genre("Drama", 18),
    genre("Action", 28),
    genre("Crime", 80),
    genre("Thriller", 53),
    genre("Horror", 27),
    genre("History", 36),
    genre("Science Fiction", 878),
    genre("Mystery", 9648),
    genre("War", 10752),
    genre("Foreign", 10769),
    genre("Music", 10402),
    genre("Documentary", 99),
    genre("Western", 37),
    genre("TV Movie", 10770),
];

/// Other spellings of the genres of the built-in label set, as other data sets write them.
const ALIASES: [(&str, &str); 6] = [
    ("Science Fiction", "Science-Fiction"),
    ("Science Fiction", "Sci-Fi"),
    ("Science Fiction", "Sci Fi"),
    ("Science Fiction", "SciFi"),
    ("TV Movie", "TV-Movie"),
    ("TV Movie", "Television Movie"),
];

/// A label, and how data sets write it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label {
    /// The name, which the model predicts.
    pub name: String,
    /// Other names of it in data sets.
    pub aliases: Vec<String>,
    /// Its ids in data sets.
    pub ids: Vec<u64>,
}

/// Why labels do not form a set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidLabelSet {
    /// There are none or too many.
    #[error("expected 1 to {MAX_LABELS} labels, found {found}")]
    Count {
        /// The number found.
        found: usize,
    },
    /// A name or an alias is blank.
    #[error("label {label:?}: expected names and aliases that are not blank")]
    Blank {
        /// The name of the label.
        label: String,
    },
    /// Two labels share a name, an alias or an id.
    #[error("labels {first:?} and {second:?}: expected different names, aliases and ids, found {what} twice")]
    Twice {
        /// The name of one label.
        first: String,
        /// The name of the other.
        second: String,
        /// The name or id that both have.
        what: String,
    },
}

/// An ordered set of labels. Clones share it.
///
/// Names are matched without regard to case, canonical form and the width of white space, so no two
/// labels of a set may differ only in those.
#[derive(Clone)]
pub struct LabelSet(Arc<Lookup>);

struct Lookup {
    labels: Vec<Label>,
    names: HashMap<String, usize>,
    ids: HashMap<u64, usize>,
}

impl LabelSet {
    /// Checks labels, whose order decides their indices.
    pub fn new(labels: Vec<Label>) -> Result<Self, InvalidLabelSet> {
        if labels.is_empty() || labels.len() > MAX_LABELS {
            return Err(InvalidLabelSet::Count { found: labels.len() });
        }
        let (mut names, mut ids) = (HashMap::new(), HashMap::new());
        let twice = |first: usize, second: usize, what: String| InvalidLabelSet::Twice {
            first: labels[first].name.clone(),
            second: labels[second].name.clone(),
            what,
        };
        for (index, label) in labels.iter().enumerate() {
            for name in std::iter::once(&label.name).chain(&label.aliases) {
                let key = label_key(name);
                if key.is_empty() {
                    return Err(InvalidLabelSet::Blank { label: label.name.clone() });
                }
                match names.entry(key) {
                    Entry::Occupied(found) if *found.get() != index => {
                        return Err(twice(*found.get(), index, format!("{name:?}")));
                    }
                    // An alias that differs from the name only in its case is harmless.
                    Entry::Occupied(_) => {}
                    Entry::Vacant(place) => {
                        place.insert(index);
                    }
                }
            }
            for id in &label.ids {
                if let Some(other) = ids.insert(*id, index).filter(|other| *other != index) {
                    return Err(twice(other, index, format!("id {id}")));
                }
            }
        }
        Ok(Self(Arc::new(Lookup { labels, names, ids })))
    }

    /// Checks labels of which only the names are known, such as those of a model. Those of the
    /// built-in set get its aliases and ids.
    pub fn of_names(names: &[String]) -> Result<Self, InvalidLabelSet> {
        let built_in = Self::built_in();
        if built_in.names().eq(names) {
            return Ok(built_in);
        }
        Self::new(names.iter().map(|name| Label { name: name.clone(), ..Label::default() }).collect())
    }

    /// The twenty genres of TMDB.
    #[must_use]
    pub fn built_in() -> Self {
        let aliases = |genre: &Genre| {
            let of_genre = ALIASES.iter().filter(|(name, _)| *name == genre.name);
            of_genre.map(|(_, alias)| (*alias).to_owned()).collect()
        };
        let label = |genre: &Genre| Label {
            name: genre.name.to_owned(),
            aliases: aliases(genre),
            ids: vec![u64::from(genre.tmdb_id)],
        };
        Self::new(GENRES.iter().map(label).collect()).expect("names, aliases and ids of GENRES differ")
    }

    /// Whether these are the labels of the built-in set, which files need not name.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.names().eq(GENRES.iter().map(|genre| genre.name))
    }

    /// The number of labels.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.0.labels.len()
    }

    /// The name of the label at `index`.
    ///
    /// # Panics
    /// If there are not as many labels.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        &self.0.labels[index].name
    }

    /// The names of all labels, in order.
    #[must_use]
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.0.labels.iter().map(|label| label.name.as_str())
    }

    /// Returns the index of the label with this name or alias.
    #[must_use]
    pub fn index_of_name(&self, name: &str) -> Option<usize> {
        self.0.names.get(&label_key(name)).copied()
    }

    /// Returns the index of the label with this id.
    #[must_use]
    pub fn index_of_id(&self, id: u64) -> Option<usize> {
        self.0.ids.get(&id).copied()
    }

    /// Returns the names of a movie's labels, in the order of the set.
    ///
    /// # Panics
    /// The iterator panics if the movie's labels are those of a larger set.
    pub fn names_of<'a>(&'a self, labels: &'a MovieLabels) -> impl Iterator<Item = &'a str> {
        labels.indices().map(|index| self.name(index))
    }

    /// Returns the labels of a movie by their names, or the first name that the set lacks.
    pub fn movie_labels<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<MovieLabels, UnknownLabel> {
        let mut labels = MovieLabels::default();
        for name in names {
            labels.insert(self.index_of_name(name).ok_or_else(|| UnknownLabel { name: name.to_owned() })?);
        }
        Ok(labels)
    }
}

/// A name that a label set lacks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected labels of the label set, found {name:?}")]
pub struct UnknownLabel {
    /// The name.
    pub name: String,
}

/// Sets are equal if their names are: aliases and ids change how data is read, not what it means.
impl PartialEq for LabelSet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.names().eq(other.names())
    }
}

impl Eq for LabelSet {}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Names the set for messages: its number of labels, and the first of them.
impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first: Vec<&str> = self.names().take(5).collect();
        let rest = if self.len() > first.len() { ", …" } else { "" };
        write!(f, "{} labels ({}{rest})", self.len(), first.join(", "))
    }
}

/// Returns the form of a name that all its spellings share: in lowercase, composed, with single
/// spaces.
#[must_use]
pub fn label_key(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    // Lowercase letters of a composed text can be decomposed, so the text is composed again.
    nfc(&nfc(&words.join(" ")).to_lowercase()).into_owned()
}

/// The labels of a movie, as indices into a [`LabelSet`], ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct MovieLabels(Vec<u16>);

impl MovieLabels {
    /// Adds the label at `index` of its set.
    ///
    /// # Panics
    /// If `index` is not below [`MAX_LABELS`].
    pub fn insert(&mut self, index: usize) {
        assert!(index < MAX_LABELS, "a label set has at most {MAX_LABELS} labels");
        let index = index as u16;
        if let Err(place) = self.0.binary_search(&index) {
            self.0.insert(place, index);
        }
    }

    /// The indices of the labels, ascending.
    #[must_use]
    pub fn indices(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.0.iter().map(|index| usize::from(*index))
    }

    /// Whether the movie has no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, aliases: &[&str], ids: &[u64]) -> Label {
        Label {
            name: name.to_owned(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ids: ids.to_vec(),
        }
    }

    #[test]
    fn returns_names_in_label_order() {
        let set = LabelSet::built_in();
        let labels = set.movie_labels(["Thriller", "sci-fi", "Animation", "thriller"]).unwrap();
        assert_eq!(set.names_of(&labels).collect::<Vec<_>>(), ["Animation", "Thriller", "Science Fiction"]);
        assert_eq!(set.movie_labels(["Sport"]).unwrap_err().name, "Sport");
    }

    #[test]
    fn finds_labels_by_id_name_and_alias() {
        let set = LabelSet::new(vec![
            label("Señor", &["Mister  Man"], &[7, 8]),
            label("東京", &[], &[]),
            label("senor", &["SENOR"], &[]),
        ])
        .unwrap();
        assert_eq!(set.index_of_id(8), Some(0));
        assert_eq!(set.index_of_id(9), None);
        for name in ["señor", " SEN\u{303}OR ", "mister\tman"] {
            assert_eq!(set.index_of_name(name), Some(0), "{name:?}");
        }
        assert_eq!((set.index_of_name("東京"), set.index_of_name("Senor")), (Some(1), Some(2)));
    }

    #[test]
    fn rejects_labels_that_cannot_be_told_apart() {
        let error = |labels| LabelSet::new(labels).unwrap_err().to_string();
        let twice = error(vec![label("War", &[], &[]), label("Peace", &["WAR "], &[])]);
        assert!(twice.contains("\"War\" and \"Peace\""), "{twice}");
        assert!(error(vec![label("A", &[], &[1]), label("B", &[], &[1])]).contains("id 1 twice"));
        assert!(error(vec![label("A", &[" "], &[])]).contains("not blank"));
        assert!(error(vec![]).contains("found 0"));
        let many = (0..=MAX_LABELS).map(|number| label(&number.to_string(), &[], &[]));
        assert!(error(many.collect()).contains("found 501"));
    }

    #[test]
    fn sets_of_the_same_names_are_equal() {
        let names: Vec<String> = LabelSet::built_in().names().map(str::to_owned).collect();
        let by_name = LabelSet::of_names(&names).unwrap();
        assert!(by_name.is_built_in() && by_name == LabelSet::built_in());
        assert_eq!(by_name.index_of_id(18), Some(6));
        let fewer = LabelSet::of_names(&names[..3]).unwrap();
        assert!(!fewer.is_built_in() && fewer != by_name);
        assert_eq!(fewer.to_string(), "3 labels (Animation, Comedy, Family)");
    }
}
