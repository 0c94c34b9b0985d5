//! Maps a genre as found in a table to a label.

use genre_model::LabelSet;
use movie_table::Genre;

/// Returns the index of the label that a genre becomes: by its id, or by its name if the set does
/// not know the id.
pub(super) fn label(genre: &Genre, set: &LabelSet) -> Option<usize> {
    let by_name = || genre.name.as_deref().and_then(|name| set.index_of_name(name));
    genre.id.and_then(|id| set.index_of_id(id)).or_else(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_labels_by_id_and_by_name_in_any_spelling() {
        let set = LabelSet::built_in();
        let name_of = |id, name: Option<&str>| {
            label(&Genre { id, name: name.map(str::to_owned) }, &set).map(|label| set.name(label))
        };
        for name in ["Science Fiction", "science fiction", "Sci-Fi", "SciFi", "Science-Fiction"] {
            assert_eq!(name_of(None, Some(name)), Some("Science Fiction"), "{name}");
        }
        assert_eq!(name_of(Some(18), Some("War")), Some("Drama"), "the id goes first");
        assert_eq!(name_of(Some(1), Some("War")), Some("War"));
        assert_eq!(name_of(Some(1), None), None);
        assert_eq!(name_of(None, Some("Sport")), None);
    }
}
