//! What a table of results holds, in numbers.

use std::collections::BTreeMap;
use std::fmt;

use crate::classify::results::ResultRow;

/// The reasons that a summary lists.
const REASONS: usize = 10;
/// The reasons that are counted by name, so that the memory for them is bounded.
const MAX_REASONS: usize = 1000;

/// Counts over the rows of a table of results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// All rows.
    pub rows: usize,
    /// Rows of which the encoder read only the beginning.
    pub truncated: usize,
    /// Rows without scores, by reason.
    pub errors: BTreeMap<String, usize>,
    /// Movies of each label.
    pub labels: BTreeMap<String, usize>,
}

impl Summary {
    pub(crate) fn add(&mut self, rows: &[ResultRow]) {
        self.rows += rows.len();
        for row in rows {
            match &row.scored {
                Ok(scored) => {
                    self.truncated += usize::from(scored.truncated);
                    scored
                        .labels
                        .iter()
                        .for_each(|label| *self.labels.entry(label.clone()).or_default() += 1);
                }
                Err(error) => {
                    let mut reason = reason(error);
                    if self.errors.len() >= MAX_REASONS && !self.errors.contains_key(&reason) {
                        "other reasons".clone_into(&mut reason);
                    }
                    *self.errors.entry(reason).or_default() += 1;
                }
            }
        }
    }

    /// Rows without scores.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.errors.values().sum()
    }
}

/// Returns an error without the line or row that it begins with, and without what was found.
fn reason(error: &str) -> String {
    let is_place = |place: &str| place.starts_with("line ") || place.starts_with("row ");
    let error = error.split_once(": ").filter(|(place, _)| is_place(place)).map_or(error, |(_, rest)| rest);
    error.split_once(", found").map_or(error, |(expected, _)| expected).to_owned()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scored = self.rows - self.failed();
        write!(f, "{} rows, {} with errors, {} truncated", self.rows, self.failed(), self.truncated)?;
        let by_count = |counts: &BTreeMap<String, usize>| {
            let mut counts: Vec<_> = counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            counts
        };
        let reasons = by_count(&self.errors);
        for (reason, count) in reasons.iter().take(REASONS) {
            write!(f, "\n{count:>9}  {reason}")?;
        }
        if reasons.len() > REASONS {
            write!(f, "\n           and {} other reasons", reasons.len() - REASONS)?;
        }
        for (label, count) in by_count(&self.labels) {
            write!(f, "\n{:>8.1}%  {label}", 100.0 * count as f64 / scored.max(1) as f64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::results::Scored;

    #[test]
    fn errors_are_counted_by_reason_and_labels_by_movie() {
        let scored = |labels: &[&str]| ResultRow {
            id: None,
            scored: Ok(Scored {
                labels: labels.iter().map(|label| (*label).to_owned()).collect(),
                probabilities: vec![],
                truncated: false,
            }),
        };
        let failed = |error: &str| ResultRow { id: None, scored: Err(error.to_owned()) };
        let mut summary = Summary::default();
        summary.add(&[
            scored(&["War", "Drama"]),
            failed("line 3: expected a text as the overview, found none"),
            scored(&["Drama"]),
            failed("row 9: expected a text as the overview, found the placeholder \"nan\""),
        ]);
        assert_eq!((summary.rows, summary.failed(), summary.errors.len()), (4, 2, 1));
        let text = summary.to_string();
        assert!(
            text.starts_with(
                "4 rows, 2 with errors, 0 truncated\n        2  expected a text as the overview\n"
            )
        );
        assert!(text.ends_with("   100.0%  Drama\n    50.0%  War"), "{text}");
    }

    #[test]
    fn the_number_of_reasons_is_bounded() {
        let mut summary = Summary::default();
        for row in 0..2_000 {
            summary.add(&[ResultRow { id: None, scored: Err(format!("row {row}: reason {row}")) }]);
        }
        assert_eq!((summary.failed(), summary.errors.len()), (2_000, MAX_REASONS + 1));
    }
}
