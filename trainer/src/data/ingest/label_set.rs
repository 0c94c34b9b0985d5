//! The label set of a data set, from a labels file or from the data itself.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use genre_model::{Label, LabelSet, MAX_LABELS, label_key};
use movie_table::{Genre, Source};
use serde::Deserialize;

use crate::FileError;
use crate::data::ingest::reader::{IngestError, IngestOptions, MovieReader};

/// The largest labels file.
const MAX_BYTES: u64 = 1 << 20;
/// The most different names that are counted. A column with more holds no genres.
const MAX_NAMES: usize = 100_000;

/// Why there is no label set.
#[derive(Debug, thiserror::Error)]
pub enum LabelSetError {
    /// The labels file cannot be read.
    #[error("labels file {0}")]
    Io(#[from] FileError),
    /// The labels file does not hold a label set.
    #[error("labels file {path}: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// The expectation, and the value found.
        reason: String,
    },
    /// The movies cannot be read.
    #[error(transparent)]
    Input(#[from] IngestError),
}

/// A labels file, in TOML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelsFile {
    labels: Vec<LabelRecord>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelRecord {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    ids: Vec<u64>,
}

/// Reads a labels file: in TOML, a table `[[labels]]` for each label with its `name` and,
/// optionally, lists of `aliases` and `ids`. The order of the tables is the order of the labels.
pub fn read(path: &Path) -> Result<LabelSet, LabelSetError> {
    let invalid = |reason: String| LabelSetError::Invalid { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(FileError::at(path))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(FileError::at(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(invalid(format!("expected at most {MAX_BYTES} bytes, found more")));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("expected UTF-8".to_owned()))?;
    let file: LabelsFile = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    let label = |LabelRecord { name, aliases, ids }| Label { name: name.trim().to_owned(), aliases, ids };
    let labels = file.labels.into_iter().map(label).collect();
    LabelSet::new(labels).map_err(|error| invalid(error.to_string()))
}

/// Takes the genres that at least `min_count` movies of a table have, the most common first. The
/// label set in `options` is not used.
pub fn from_data(
    source: &Source,
    options: &IngestOptions,
    min_count: u64,
) -> Result<LabelSet, LabelSetError> {
    let unusable = |reason| IngestError::Unusable { name: source.name(), reason };
    let mut found: HashMap<String, Spellings> = HashMap::new();
    MovieReader::open(source, options)?.each_genres(|genres| {
        let mut of_movie: Vec<_> = genres.iter().filter_map(Written::of).collect();
        of_movie.sort_by(|a, b| a.key.cmp(&b.key));
        of_movie.dedup_by(|a, b| {
            let is_same = a.key == b.key;
            if is_same {
                b.id = b.id.or(a.id);
            }
            is_same
        });
        for Written { key, name, id } in of_movie {
            let spellings = found.entry(key).or_default();
            spellings.movies += 1;
            *spellings.names.entry(name).or_default() += 1;
            spellings.id = spellings.id.or(id);
        }
        if found.len() > MAX_NAMES {
            return Err(format!("expected genres, found more than {MAX_NAMES} different ones"));
        }
        Ok(())
    })?;
    let mut labels: Vec<(u64, Label)> = found
        .into_values()
        .filter(|spellings| spellings.movies >= min_count)
        .map(|spellings| (spellings.movies, spellings.into_label()))
        .collect();
    labels.sort_by(|(a, first), (b, second)| b.cmp(a).then_with(|| first.name.cmp(&second.name)));
    if labels.is_empty() || labels.len() > MAX_LABELS {
        let (found, limit) = (labels.len(), MAX_LABELS);
        let advice = if found == 0 { "lower" } else { "raise" };
        let reason = format!(
            "expected 1 to {limit} genres with at least {min_count} movies, found {found}; {advice} --min-count"
        );
        return Err(unusable(reason).into());
    }
    let labels = labels.into_iter().map(|(_, label)| label).collect();
    LabelSet::new(labels).map_err(|error| unusable(error.to_string()).into())
}

/// A genre of a movie, by the key that all its spellings share.
struct Written {
    key: String,
    name: String,
    /// The id of a genre without a name.
    id: Option<u64>,
}

impl Written {
    fn of(genre: &Genre) -> Option<Self> {
        let named = genre.name.as_ref().filter(|name| !name.is_empty());
        match (named, genre.id) {
            (Some(name), _) => Some(Self { key: label_key(name), name: name.clone(), id: None }),
            (None, Some(id)) => Some(Self { key: id.to_string(), name: id.to_string(), id: Some(id) }),
            (None, None) => None,
        }
    }
}

/// The spellings of a genre, and how many movies have it.
#[derive(Default)]
struct Spellings {
    movies: u64,
    names: HashMap<String, u64>,
    id: Option<u64>,
}

impl Spellings {
    /// Names the label by the most common spelling.
    fn into_label(self) -> Label {
        let most = self.names.into_iter().max_by(|(a, x), (b, y)| x.cmp(y).then_with(|| b.cmp(a)));
        Label {
            name: most.map(|(name, _)| name).unwrap_or_default(),
            aliases: Vec::new(),
            ids: self.id.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn reads_names_aliases_and_ids_in_their_order() {
        let text = "[[labels]]\nname = \"Billing\"\naliases = [\"Invoices\"]\nids = [3, 4]\n\n[[labels]]\nname = \"Spam\"\n";
        let (_folder, path) = file("labels.toml", text);
        let labels = read(&path).unwrap();
        assert_eq!(labels.names().collect::<Vec<_>>(), ["Billing", "Spam"]);
        assert_eq!((labels.index_of_name("invoices"), labels.index_of_id(4)), (Some(0), Some(0)));
    }

    #[test]
    fn names_the_fault_of_a_labels_file() {
        for (text, fault) in [
            ("", "missing field `labels`"),
            ("labels = []", "expected 1 to 500 labels, found 0"),
            ("[[labels]]\nnames = \"A\"", "unknown field `names`"),
            ("[[labels]]\nname = \"A\"\n[[labels]]\nname = \"a\"", "found \"a\" twice"),
            ("[[labels]]\nname = \" \"", "not blank"),
        ] {
            let (_folder, path) = file("labels.toml", text);
            let message = read(&path).unwrap_err().to_string();
            assert!(message.contains("labels.toml: ") && message.contains(fault), "{text:?}: {message}");
        }
    }

    #[test]
    fn takes_common_genres_from_the_data_by_their_most_common_spelling() {
        let rows = "id,title,overview,genres\n1,T,O.,spam|Billing\n2,T,O.,Spam\n3,T,O.,Spam|SPAM\n4,T,O.,Rare\n\
                    5,T,O.,Billing\n6,T,,Lost\n";
        let (_folder, path) = file("mail.csv", rows);
        let (source, options) = (Source::new(&path), IngestOptions::default());
        let names = |min_count| {
            let labels = from_data(&source, &options, min_count).unwrap();
            labels.names().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names(1), ["Spam", "Billing", "Rare"]);
        assert_eq!(names(2), ["Spam", "Billing"]);
        let message = from_data(&source, &options, 9).unwrap_err().to_string();
        assert!(message.contains("at least 9 movies, found 0; lower --min-count"), "{message}");
    }

    #[test]
    fn a_genre_without_a_name_is_labelled_by_its_id() {
        let rows = "id,title,overview,genres\n1,T,O.,\"[{\"\"id\"\": 7}, {\"\"name\"\": \"\"Spam\"\"}]\"\n";
        let (_folder, path) = file("mail.csv", rows);
        let (source, options) = (Source::new(&path), IngestOptions::default());
        let labels = from_data(&source, &options, 1).unwrap();
        assert_eq!(labels.names().collect::<Vec<_>>(), ["7", "Spam"]);
        assert_eq!(labels.index_of_id(7), Some(0));
    }

    #[test]
    fn a_row_without_genres_does_not_hide_a_later_row_of_its_id() {
        let (_folder, path) = file("mail.csv", "id,title,overview,genres\n1,T,O.,\n1,T,O.,Spam\n");
        let labels = from_data(&Source::new(&path), &IngestOptions::default(), 1).unwrap();
        assert_eq!(labels.names().collect::<Vec<_>>(), ["Spam"]);
    }

    #[test]
    fn a_name_equal_to_an_id_of_an_earlier_row_does_not_erase_the_id() {
        let rows = "id,title,overview,genres\n1,T,O.,\"[{\"\"id\"\": 7}]\"\n\
                    2,T,O.,\"[{\"\"name\"\": \"\"7\"\"}]\"\n";
        let (_folder, path) = file("mail.csv", rows);
        let labels = from_data(&Source::new(&path), &IngestOptions::default(), 1).unwrap();
        assert_eq!(labels.names().collect::<Vec<_>>(), ["7"]);
        assert_eq!(labels.index_of_id(7), Some(0));
    }
}
