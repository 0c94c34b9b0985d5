//! The thresholds that turn probabilities into genres.

/// One threshold for each label, and the rule that chose them. A genre is predicted if its
/// probability exceeds its threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    rule: String,
    global: f32,
    per_genre: Vec<f32>,
}

/// Invalid thresholds.
#[derive(Debug, thiserror::Error)]
pub enum InvalidThresholds {
    /// A threshold is not a probability.
    #[error("expected thresholds between 0 and 1, found {found}")]
    OutOfRange {
        /// The first invalid threshold.
        found: f32,
    },
    /// There is no threshold.
    #[error("expected a threshold for each label, found none")]
    Empty,
}

impl Thresholds {
    /// Checks thresholds of shape `[labels]`. `global` is the best single threshold for all labels.
    ///
    /// # Errors
    /// Fails if there is none, or if one is not between 0 and 1.
    pub fn new(rule: impl Into<String>, global: f32, per_genre: Vec<f32>) -> Result<Self, InvalidThresholds> {
        if per_genre.is_empty() {
            return Err(InvalidThresholds::Empty);
        }
        if let Some(&found) = per_genre.iter().chain([&global]).find(|t| !(0.0..=1.0).contains(*t)) {
            return Err(InvalidThresholds::OutOfRange { found });
        }
        Ok(Self { rule: rule.into(), global, per_genre })
    }

    /// Returns the same threshold for each of `labels` labels.
    pub fn uniform(
        rule: impl Into<String>,
        threshold: f32,
        labels: usize,
    ) -> Result<Self, InvalidThresholds> {
        Self::new(rule, threshold, vec![threshold; labels])
    }

    /// The rule that chose the thresholds, in words.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The best single threshold.
    #[must_use]
    pub fn global(&self) -> f32 {
        self.global
    }

    /// The threshold of each label, by which genres are predicted.
    #[must_use]
    pub fn per_genre(&self) -> &[f32] {
        &self.per_genre
    }

    /// Whether label `index` is predicted at `probability`.
    #[must_use]
    pub fn predicts(&self, index: usize, probability: f32) -> bool {
        probability > self.per_genre[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicts_only_above_the_threshold() {
        let thresholds = Thresholds::uniform("test", 0.5, 2).unwrap();
        assert!(!thresholds.predicts(0, 0.5));
        assert!(thresholds.predicts(1, 0.500_001));
    }

    #[test]
    fn rejects_thresholds_that_are_not_probabilities() {
        assert!(Thresholds::uniform("test", f32::NAN, 1).is_err());
        assert!(Thresholds::new("test", 0.5, vec![0.2, 1.5]).is_err());
        assert!(Thresholds::new("test", 0.5, vec![]).is_err());
    }
}
