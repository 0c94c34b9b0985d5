//! Which labels of a movie are predicted: the model's thresholds, unless the request has its own
//! rule.

use genre_model::Thresholds;
use proto::classifier::v1::GenreScore;
use service_kit::FieldViolation;

/// A request's own rule for its predicted genres. Without one, the model's thresholds apply.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Selection {
    /// Replaces the threshold of every label. Compared as `f32`, but checked before rounding, which
    /// would turn a value just outside of the range into 0 or 1.
    pub min_probability: Option<f64>,
    /// The most predicted labels. Without `min_probability`, no threshold applies.
    pub top_k: Option<u32>,
}

impl Selection {
    /// Returns the rule of a gRPC request.
    pub(crate) fn of_request(min_probability: Option<f32>, top_k: Option<u32>) -> Self {
        Self { min_probability: min_probability.map(f64::from), top_k }
    }

    /// Returns the fields with values that no probability or count can have.
    pub(crate) fn violations(self) -> Vec<FieldViolation> {
        let out_of_range = |field: &str, expected: &str, found: String| FieldViolation {
            field: field.to_owned(),
            description: format!("expected {expected}, found {found}"),
            reason: "OUT_OF_RANGE",
        };
        let probability = self
            .min_probability
            .filter(|value| !(0.0..=1.0).contains(value))
            .map(|found| out_of_range("min_probability", "a number from 0 to 1", found.to_string()));
        let count = self
            .top_k
            .filter(|&value| value == 0)
            .map(|found| out_of_range("top_k", "a number of genres, at least 1", found.to_string()));
        probability.into_iter().chain(count).collect()
    }

    /// Returns the threshold that a response states for a label whose own one is `threshold`.
    pub(crate) fn threshold(self, threshold: f32) -> f32 {
        self.min_probability.map_or(threshold, |min| min as f32)
    }

    /// Returns the predicted labels of `scores`, which has one for each label in order; the most
    /// probable first.
    pub(crate) fn of(self, scores: &[GenreScore], thresholds: &Thresholds) -> Vec<GenreScore> {
        let is_predicted = |index: usize, probability: f32| match (self.min_probability, self.top_k) {
            (Some(min), _) => probability > min as f32,
            (None, Some(_)) => true,
            (None, None) => thresholds.predicts(index, probability),
        };
        let mut genres: Vec<_> = scores
            .iter()
            .enumerate()
            .filter(|(index, score)| is_predicted(*index, score.probability))
            .map(|(_, score)| score.clone())
            .collect();
        // A stable sort: equally probable labels stay in the model's order.
        genres.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        genres.truncate(self.top_k.map_or(usize::MAX, |top_k| top_k as usize));
        genres
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(min_probability: Option<f64>, top_k: Option<u32>) -> Vec<String> {
        let score = |(label, probability): (&str, f32)| GenreScore {
            label: label.to_owned(),
            probability,
            threshold: 0.5,
        };
        let scores = [("Action", 0.6), ("Drama", 0.9), ("Music", 0.2), ("War", 0.6)].map(score);
        let thresholds = Thresholds::new("test", 0.5, vec![0.5, 0.5, 0.1, 0.7]).unwrap();
        let genres = Selection { min_probability, top_k }.of(&scores, &thresholds);
        genres.into_iter().map(|genre| genre.label).collect()
    }

    #[test]
    fn without_a_rule_the_thresholds_of_the_model_apply() {
        assert_eq!(selected(None, None), ["Drama", "Action", "Music"]);
    }

    #[test]
    fn min_probability_replaces_the_thresholds() {
        assert_eq!(selected(Some(0.5), None), ["Drama", "Action", "War"]);
        assert_eq!(selected(Some(f64::from(0.6_f32)), None), ["Drama"]);
        assert_eq!(selected(Some(0.0), None).len(), 4);
        assert!(selected(Some(1.0), None).is_empty());
    }

    #[test]
    fn top_k_alone_returns_exactly_that_many_and_ties_keep_the_order_of_the_model() {
        assert_eq!(selected(None, Some(2)), ["Drama", "Action"]);
        assert_eq!(selected(None, Some(3)), ["Drama", "Action", "War"]);
        assert_eq!(selected(None, Some(u32::MAX)).len(), 4);
    }

    #[test]
    fn top_k_limits_those_above_min_probability() {
        assert_eq!(selected(Some(0.5), Some(2)), ["Drama", "Action"]);
        assert_eq!(selected(Some(0.7), Some(2)), ["Drama"]);
    }

    #[test]
    fn rejects_values_that_are_no_probability_or_count() {
        let fields = |min_probability, top_k| {
            let violations = Selection { min_probability, top_k }.violations();
            violations.into_iter().map(|violation| violation.description).collect::<Vec<_>>()
        };
        assert!(fields(Some(0.0), Some(1)).is_empty() && fields(Some(1.0), None).is_empty());
        assert_eq!(fields(Some(f64::NAN), Some(0)).len(), 2);
        assert_eq!(fields(Some(1.5), None), ["expected a number from 0 to 1, found 1.5"]);
        assert_eq!(fields(Some(1.0_f64.next_up()), None).len() + fields(Some(-1e-300), None).len(), 2);
        assert_eq!(fields(Some(-0.1), None).len() + fields(Some(f64::INFINITY), None).len(), 2);
    }
}
