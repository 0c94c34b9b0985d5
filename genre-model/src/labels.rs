//! The built-in label set: the twenty genres of TMDB, in the label order of the reference system.

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

/// All genres. A label's index is its index here.
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

/// A set of genres. Bit `i` stands for `GENRES[i]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct GenreSet(u32);

impl GenreSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Adds the genre with this TMDB id. Returns `false` if [`GENRES`] has none.
    pub fn insert_tmdb_id(&mut self, tmdb_id: u32) -> bool {
        self.insert(|genre| genre.tmdb_id == tmdb_id)
    }

    /// Adds the genre with this name. Returns `false` if [`GENRES`] has none.
    pub fn insert_name(&mut self, name: &str) -> bool {
        self.insert(|genre| genre.name == name)
    }

    fn insert(&mut self, is_it: impl Fn(&Genre) -> bool) -> bool {
        let index = GENRES.iter().position(is_it);
        self.0 |= index.map_or(0, |index| 1 << index);
        index.is_some()
    }

    /// Whether `GENRES[index]` is in the set.
    #[must_use]
    pub fn contains(self, index: usize) -> bool {
        index < GENRES.len() && self.0 & (1 << index) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the names of the genres, in label order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        GENRES.iter().enumerate().filter(move |(index, _)| self.contains(*index)).map(|(_, genre)| genre.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_names_in_label_order() {
        let mut set = GenreSet::EMPTY;
        assert!(set.insert_tmdb_id(53));
        assert!(set.insert_name("Animation"));
        assert!(!set.insert_tmdb_id(1));
        assert!(!set.insert_name("thriller"));
        assert_eq!(set.names().collect::<Vec<_>>(), ["Animation", "Thriller"]);
    }

    #[test]
    fn ids_and_names_are_unique() {
        for (index, genre) in GENRES.iter().enumerate() {
            let twin =
                GENRES[index + 1..].iter().find(|o| o.tmdb_id == genre.tmdb_id || o.name == genre.name);
            assert_eq!(twin, None);
        }
    }
}
