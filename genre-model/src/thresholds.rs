//! From probabilities to genres.

/// One threshold a label, and the rule that chose them. A genre is predicted when its probability is above.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    rule: String,
    global: f32,
    per_genre: Vec<f32>,
}

/// Thresholds outside of what a probability can be.
#[derive(Debug, thiserror::Error)]
pub enum InvalidThresholds {
    /// Not a probability.
    #[error("expected thresholds between 0 and 1, found {found}")]
    OutOfRange {
        /// The first that is not.
        found: f32,
    },
    /// There must be at least one label.
    #[error("expected a threshold for each label, found none")]
    Empty,
}

impl Thresholds {
    /// Checks and keeps them. `global` is the one threshold to use for all labels where only one is wanted.
    pub fn new(rule: impl Into<String>, global: f32, per_genre: Vec<f32>) -> Result<Self, InvalidThresholds> {
        if per_genre.is_empty() {
            return Err(InvalidThresholds::Empty);
        }
        if let Some(&found) = per_genre.iter().chain([&global]).find(|t| !(0.0..=1.0).contains(*t)) {
            return Err(InvalidThresholds::OutOfRange { found });
        }
        Ok(Self { rule: rule.into(), global, per_genre })
    }

    /// One threshold for every label.
    pub fn uniform(
        rule: impl Into<String>,
        threshold: f32,
        labels: usize,
    ) -> Result<Self, InvalidThresholds> {
        Self::new(rule, threshold, vec![threshold; labels])
    }

    /// How they were chosen, in words.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The best single threshold.
    #[must_use]
    pub fn global(&self) -> f32 {
        self.global
    }

    /// The threshold of each label; these decide.
    #[must_use]
    pub fn per_genre(&self) -> &[f32] {
        &self.per_genre
    }

    /// Whether label `index` is predicted at this probability.
    #[must_use]
    pub fn predicts(&self, index: usize, probability: f32) -> bool {
        probability > self.per_genre[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_at_the_threshold_is_not_a_prediction() {
        let thresholds = Thresholds::uniform("test", 0.5, 2).unwrap();
        assert!(!thresholds.predicts(0, 0.5));
        assert!(thresholds.predicts(1, 0.500_001));
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        assert!(Thresholds::uniform("test", f32::NAN, 1).is_err());
        assert!(Thresholds::new("test", 0.5, vec![0.2, 1.5]).is_err());
        assert!(Thresholds::new("test", 0.5, vec![]).is_err());
    }
}
