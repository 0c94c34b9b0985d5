//! The range of movies that one of several workers encodes.

use std::fmt;
use std::ops::Range;

/// Shard `index` of `count`, from 0: a contiguous range of movies. Sizes of shards differ by at
/// most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

/// A string that does not name a shard.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a shard I/N with I from 0 to N - 1, such as 0/4, found {found:?}")]
pub struct InvalidShard {
    found: String,
}

impl Shard {
    /// Returns shard `index` of `count`, or `None` if the index is not below the count.
    #[must_use]
    pub fn new(index: usize, count: usize) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// Parses `I/N`.
    pub fn parse(text: &str) -> Result<Self, InvalidShard> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let shard = numbers.and_then(|(index, count)| Self::new(index, count));
        shard.ok_or_else(|| InvalidShard { found: text.to_owned() })
    }

    /// Returns the shard of a pod of a Kubernetes Indexed Job, from the variables
    /// `JOB_COMPLETION_INDEX` and `JOB_COMPLETIONS`. Kubernetes sets the first; the manifest of the
    /// job must set the second.
    pub fn of_job(index: Option<&str>, completions: Option<&str>) -> Result<Option<Self>, InvalidShard> {
        match (index, completions) {
            (None, _) => Ok(None),
            (Some(index), completions) => {
                Self::parse(&format!("{index}/{}", completions.unwrap_or("JOB_COMPLETIONS is not set")))
                    .map(Some)
            }
        }
    }

    /// The index, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.index
    }

    /// The number of shards.
    #[must_use]
    pub fn count(self) -> usize {
        self.count
    }

    /// Returns the range of its movies among `all`.
    #[must_use]
    pub fn movies(self, all: usize) -> Range<usize> {
        // The product of two numbers from a file may exceed 64 bits; the quotient is at most `all`.
        let start = |index: usize| (all as u128 * index as u128 / self.count as u128) as usize;
        start(self.index)..start(self.index + 1)
    }

    /// The name of its vectors file.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("shard-{:05}-of-{:05}.parquet", self.index, self.count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_an_argument_and_the_variables_of_a_job() {
        assert_eq!(Shard::parse("3/4").unwrap().to_string(), "3/4");
        for wrong in ["4/4", "0/0", "1", "a/b", "-1/2", "1/2/3"] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Shard::of_job(None, Some("4")), Ok(None));
        assert_eq!(Shard::of_job(Some("1"), Some("4")), Ok(Some(Shard { index: 1, count: 4 })));
        let message = Shard::of_job(Some("1"), None).unwrap_err().to_string();
        assert!(message.contains("JOB_COMPLETIONS is not set"), "{message}");
    }

    proptest! {
        #[test]
        fn every_movie_is_in_exactly_one_shard(all in 0_usize..1000, count in 1_usize..20) {
            let movies: Vec<usize> = (0..count).flat_map(|index| Shard { index, count }.movies(all)).collect();
            prop_assert_eq!(movies, (0..all).collect::<Vec<_>>());
        }
    }
}
