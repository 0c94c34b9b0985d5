//! The split of a movie: train, validation or test, a pure function of its id.

use std::fmt;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

/// One of the three splits. Every stage that fits or measures asks [`Split::of`], so no fit ever
/// uses a test movie ([`genre_model::SPLIT_RULE`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Movies from which gradients are computed.
    Train,
    /// Movies on which early stopping, thresholds and every other choice are judged.
    Validation,
    /// Movies for the final measurements. No choice depends on them.
    Test,
}

impl Split {
    /// All splits, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Returns the split of the movie with this TMDB id.
    #[must_use]
    pub fn of(movie_id: u64) -> Self {
        match xxh3_64(movie_id.to_string().as_bytes()) % 100 {
            0..72 => Self::Train,
            72..82 => Self::Validation,
            _ => Self::Test,
        }
    }

    /// The name in files and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// Returns the split with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.name() == name)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The movies that a model is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitChoice {
    /// The movies of one split.
    One(Split),
    /// All movies, including those that the model was fitted on.
    All,
}

impl SplitChoice {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::One(split) => split.name(),
            Self::All => "all",
        }
    }

    /// Whether the movie with this TMDB id is measured.
    #[must_use]
    pub fn contains(self, movie_id: u64) -> bool {
        match self {
            Self::One(split) => Split::of(movie_id) == split,
            Self::All => true,
        }
    }
}

impl clap::ValueEnum for SplitChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::One(Split::Train), Self::One(Split::Validation), Self::One(Split::Test), Self::All]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_ids_as_python_xxhash_does() {
        // xxhash.xxh3_64_intdigest(str(id)) of the Python package xxhash 4.1.0
        let expected = [
            (1_u64, 0x65cd_2502_8f98_f158),
            (862_u64, 0xa25c_72b4_f0e5_34a0),
            (8844_u64, 0x4b56_7f2a_7633_34db),
            (15_602_u64, 0x2f60_f37e_8ad9_6a32),
            (999_999_u64, 0x3d21_dbea_2d82_4e25),
        ];
        for (id, digest) in expected {
            assert_eq!(xxh3_64(id.to_string().as_bytes()), digest);
        }
    }

    #[test]
    fn splits_have_the_sizes_of_the_rule() {
        let share = |split| (0..20_000).filter(|id| Split::of(*id) == split).count() as f64 / 20_000.0;
        assert!((share(Split::Train) - 0.72).abs() < 0.01);
        assert!((share(Split::Validation) - 0.10).abs() < 0.01);
        assert!((share(Split::Test) - 0.18).abs() < 0.01);
    }

    #[test]
    fn reads_a_name_back_as_its_split() {
        assert!(Split::ALL.into_iter().all(|split| Split::from_name(split.name()) == Some(split)));
        assert_eq!(Split::from_name("dev"), None);
    }
}
