//! A genre as a table writes it, and the label that it becomes.

use genre_model::LabelSet;

/// A genre as a table writes it: by id, by name, or by both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WrittenGenre {
    pub(crate) id: Option<u64>,
    pub(crate) name: Option<String>,
}

impl WrittenGenre {
    /// A genre that is written by its name alone.
    pub(crate) fn named(name: &str) -> Self {
        Self { id: None, name: Some(name.trim().to_owned()) }
    }

    /// Returns the index of the label that the genre becomes: by its id, or by its name if the set
    /// does not know the id.
    pub(crate) fn label(&self, set: &LabelSet) -> Option<usize> {
        let by_name = || self.name.as_deref().and_then(|name| set.index_of_name(name));
        self.id.and_then(|id| set.index_of_id(id)).or_else(by_name)
    }
}
