//! Compares saved state with the job at hand.
//!
//! Every resumable command saves an identity beside its state: the values that decide the result. A
//! command continues only from state with the same identity, and names each value that differs.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The saved state that a job finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checkpoint {
    /// Nothing is saved.
    Absent,
    /// State of the same job.
    SameJob,
    /// State of another job.
    OtherJob(Differences),
}

/// How another job differs, value by value: `seed: expected 4, found 3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differences(Vec<String>);

impl Checkpoint {
    /// Compares the identity of this job with a saved one, field by field.
    pub(crate) fn compare<T: Serialize>(expected: &T, found: &T) -> Self {
        let fields = |identity| match serde_json::to_value(identity) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (expected, found) = (fields(expected), fields(found));
        let differing = expected.iter().filter(|(name, value)| found.get(*name) != Some(*value));
        let differences: Vec<String> = differing
            .map(|(name, expected)| {
                let found = found.get(name).unwrap_or(&serde_json::Value::Null);
                format!("{name}: expected {expected}, found {found}")
            })
            .collect();
        if differences.is_empty() { Self::SameJob } else { Self::OtherJob(Differences(differences)) }
    }

    /// Compares the identity of this job with one that was saved as JSON. State that cannot be read
    /// counts as another job's.
    pub(crate) fn of_json<T: Serialize + DeserializeOwned>(expected: &T, saved: &[u8]) -> Self {
        match serde_json::from_slice(saved) {
            Ok(found) => Self::compare(expected, &found),
            Err(error) => Self::unreadable(format!("expected the identity of a job: {error}")),
        }
    }

    /// State that cannot be read.
    pub(crate) fn unreadable(reason: String) -> Self {
        Self::OtherJob(Differences(vec![reason]))
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Identity {
        name: String,
        seed: Option<u64>,
    }

    fn identity(name: &str, seed: Option<u64>) -> Identity {
        Identity { name: name.to_owned(), seed }
    }

    #[test]
    fn names_each_value_that_differs() {
        let expected = identity("a", Some(4));
        assert_eq!(Checkpoint::compare(&expected, &identity("a", Some(4))), Checkpoint::SameJob);
        let Checkpoint::OtherJob(differences) = Checkpoint::compare(&expected, &identity("b", None)) else {
            panic!("expected another job");
        };
        assert_eq!(
            differences.to_string(),
            "name: expected \"a\", found \"b\"; seed: expected 4, found null"
        );
    }

    #[test]
    fn unreadable_state_counts_as_another_job() {
        let expected = identity("a", None);
        assert_eq!(Checkpoint::of_json(&expected, br#"{"name":"a","seed":null}"#), Checkpoint::SameJob);
        assert!(matches!(Checkpoint::of_json(&expected, b"{\"name\":"), Checkpoint::OtherJob(_)));
    }
}
