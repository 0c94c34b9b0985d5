//! The twenty genres of TMDB, in the label order of the reference system.

/// A genre and its TMDB id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genre {
    /// The name as TMDB writes it.
    pub name: &'static str,
    /// The id that stands in a movie's `genres` field.
    pub tmdb_id: u32,
}

const fn genre(name: &'static str, tmdb_id: u32) -> Genre {
    Genre { name, tmdb_id }
}

/// All genres; a label's index is its place here.
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

/// A set of genres: bit `i` stands for `GENRES[i]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct GenreSet(u32);

impl GenreSet {
    /// The set without a genre.
    pub const EMPTY: Self = Self(0);

    /// Adds the genre with this TMDB id; `false` if it is none of [`GENRES`].
    pub fn insert_tmdb_id(&mut self, tmdb_id: u32) -> bool {
        match GENRES.iter().position(|genre| genre.tmdb_id == tmdb_id) {
            Some(index) => {
                self.insert(index);
                true
            }
            None => false,
        }
    }

    /// Adds the genre with this name; `false` if it is none of [`GENRES`].
    pub fn insert_name(&mut self, name: &str) -> bool {
        match GENRES.iter().position(|genre| genre.name == name) {
            Some(index) => {
                self.insert(index);
                true
            }
            None => false,
        }
    }

    fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// Whether `GENRES[index]` is in the set.
    #[must_use]
    pub fn contains(self, index: usize) -> bool {
        index < GENRES.len() && self.0 & (1 << index) != 0
    }

    /// Whether there is no genre in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, in label order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        GENRES.iter().enumerate().filter(move |(index, _)| self.contains(*index)).map(|(_, genre)| genre.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_the_names_it_was_given_in_label_order() {
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
