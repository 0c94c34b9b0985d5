//! The JSON of requests and responses, for handlers, the OpenAPI document and the command line.
//!
//! The names are those of the gRPC messages. `openapi` adds the limits, which are settings.

use std::collections::BTreeMap;

use proto::classifier::v1 as wire;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::batch_list::batch_of_objects;

/// A movie, and what to include in the response.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyRequest {
    /// May be missing, null or empty.
    #[schema(example = "Dust Creek")]
    pub title: Option<String>,
    /// What the movie is about; must not be blank.
    #[schema(
        example = "A retired gunslinger defends a frontier town against the hired men of a cattle baron."
    )]
    pub overview: String,
    /// Include the probabilities of all genres.
    #[schema(default = false)]
    pub include_scores: Option<bool>,
    /// Include what each sentence contributes to each genre.
    #[schema(default = false)]
    pub explain: Option<bool>,
    /// Replaces the threshold of every genre: a genre is predicted if its probability is above this
    /// value.
    #[schema(minimum = 0.0, maximum = 1.0, example = 0.5)]
    pub min_probability: Option<f64>,
    /// Return only this many of the predicted genres, the most probable. Without `min_probability`,
    /// no threshold applies: exactly this many genres are predicted, or all if there are fewer.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u32, example = 3)]
    #[serde(default, deserialize_with = "whole_number")]
    pub top_k: Option<u32>,
}

/// A movie.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Movie {
    /// May be missing, null or empty.
    #[schema(example = "Reef")]
    pub title: Option<String>,
    /// What the movie is about; must not be blank.
    #[schema(example = "A documentary about the slow death of a coral reef.")]
    pub overview: String,
}

/// A batch of movies, classified as a whole or not at all.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchClassifyRequest {
    /// The movies of the batch.
    #[serde(deserialize_with = "batch_of_objects")]
    pub movies: Vec<Movie>,
    /// Include the probabilities of all genres.
    #[schema(default = false)]
    pub include_scores: Option<bool>,
    /// For every movie, as in `ClassifyRequest`.
    #[schema(minimum = 0.0, maximum = 1.0, example = 0.5)]
    pub min_probability: Option<f64>,
    /// For every movie, as in `ClassifyRequest`.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u32, example = 3)]
    #[serde(default, deserialize_with = "whole_number")]
    pub top_k: Option<u32>,
}

/// Deserializes a whole number or null. `3.0` is a whole number, as in JSON Schema, and so to the
/// clients that it comes from.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let text = number.to_string();
    let digits = text.strip_suffix(".0").unwrap_or(&text);
    let expected =
        || D::Error::custom(format!("expected a whole number of at most {}, found {text}", u32::MAX));
    digits.parse().map(Some).map_err(|_| expected())
}

/// The genres of a movie.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClassifyResponse {
    /// The predicted genres, most probable first; may be empty.
    pub genres: Vec<GenreScore>,
    /// All genres in the model's order, if `include_scores` is true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub scores: Vec<GenreScore>,
    /// Derived from the content of the model file.
    pub model_version: String,
    /// Whether the end was cut off because the text is longer than the encoder reads.
    pub truncated: bool,
    /// What each sentence contributes, if `explain` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// A genre's probability and threshold.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GenreScore {
    /// The genre.
    #[schema(example = "Western")]
    pub label: String,
    /// Between 0 and 1.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub probability: f32,
    /// The genre is predicted when its probability is above the threshold. It is `min_probability`
    /// if the request has one, otherwise the model's; with `top_k` alone, genres under their
    /// threshold are predicted, too.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub threshold: f32,
}

/// The segments of the movie, each left out in turn.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Explanation {
    /// The title, if any, then the sentences of the overview; empty if there is only one segment.
    pub segments: Vec<Segment>,
}

/// The title or one sentence of the overview.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Segment {
    /// Where it comes from.
    pub source: Source,
    /// Its text.
    pub text: String,
    /// One for each predicted genre, or for all genres if `include_scores` is true.
    pub contributions: Vec<Contribution>,
}

/// Where a segment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The title.
    Title,
    /// A sentence of the overview.
    Overview,
}

/// What one segment contributes to one genre.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Contribution {
    /// The genre.
    pub label: String,
    /// Its probability without the segment.
    pub probability_without: f32,
    /// How much the segment increases the probability; negative if it decreases it.
    pub contribution: f32,
}

/// The results of a batch.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BatchClassifyResponse {
    /// One result for each movie, in the order of the request.
    pub results: Vec<ClassifyResponse>,
    /// Version of the one model that classified them all.
    pub model_version: String,
}

/// The current model.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Model {
    /// The genres, in the order of `thresholds`.
    pub labels: Vec<String>,
    /// A genre is predicted when its probability is above its threshold.
    pub thresholds: Vec<f32>,
    /// How the thresholds were chosen.
    pub threshold_rule: String,
    /// Name of the encoder that the model was fitted on.
    pub encoder_id: String,
    /// Version of that encoder.
    pub encoder_version: String,
    /// Fingerprint of that encoder.
    pub encoder_fingerprint: String,
    /// Derived from the content of the model file.
    pub model_version: String,
    /// How title and overview form the text to encode.
    pub input_template: String,
    /// Metrics measured when the model was fitted.
    pub metrics: BTreeMap<String, f64>,
    /// Limit of movies in a batch.
    pub max_batch_size: u32,
}

impl From<wire::GenreScore> for GenreScore {
    fn from(score: wire::GenreScore) -> Self {
        Self { label: score.label, probability: score.probability, threshold: score.threshold }
    }
}

impl From<wire::ClassifyResponse> for ClassifyResponse {
    fn from(answer: wire::ClassifyResponse) -> Self {
        Self {
            genres: answer.genres.into_iter().map(Into::into).collect(),
            scores: answer.scores.into_iter().map(Into::into).collect(),
            model_version: answer.model_version,
            truncated: answer.truncated,
            explanation: answer.explanation.map(Into::into),
        }
    }
}

impl From<wire::Explanation> for Explanation {
    fn from(explanation: wire::Explanation) -> Self {
        Self { segments: explanation.segments.into_iter().map(Into::into).collect() }
    }
}

impl From<wire::Segment> for Segment {
    fn from(segment: wire::Segment) -> Self {
        Self {
            source: if segment.source() == wire::Source::Title { Source::Title } else { Source::Overview },
            text: segment.text,
            contributions: segment.contributions.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<wire::Contribution> for Contribution {
    fn from(contribution: wire::Contribution) -> Self {
        Self {
            label: contribution.label,
            probability_without: contribution.probability_without,
            contribution: contribution.contribution,
        }
    }
}

impl From<wire::GetModelResponse> for Model {
    fn from(model: wire::GetModelResponse) -> Self {
        Self {
            labels: model.labels,
            thresholds: model.thresholds,
            threshold_rule: model.threshold_rule,
            encoder_id: model.encoder_id,
            encoder_version: model.encoder_version,
            encoder_fingerprint: model.encoder_fingerprint,
            model_version: model.model_version,
            input_template: model.input_template,
            metrics: model.metrics.into_iter().collect(),
            max_batch_size: model.max_batch_size,
        }
    }
}

impl From<Movie> for wire::Movie {
    fn from(movie: Movie) -> Self {
        Self { title: movie.title.unwrap_or_default(), overview: movie.overview }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::{Object, parse_json};

    #[test]
    fn rejects_a_list_of_field_values_in_place_of_an_object() {
        let list = r#"["Reef", "A diver.", true, false]"#;
        let error = serde_json::from_str::<Object<ClassifyRequest>>(list).err().unwrap().to_string();
        assert!(error.contains("expected an object"), "{error}");
        let movies = r#"{"movies": [{"overview": "A diver."}, ["Reef", "A diver."]]}"#;
        let error = parse_json::<BatchClassifyRequest>(movies.as_bytes()).err().unwrap().to_string();
        assert!(error.starts_with("movies[1]: "), "{error}");
        let movie = serde_json::Value::from_iter([("overview", "A diver.")]);
        assert!(Object::<ClassifyRequest>::deserialize(movie).is_ok());
    }

    #[test]
    fn top_k_is_a_whole_number_also_with_a_fraction_of_zero() {
        let top_k = |value: &str| {
            let body = format!(r#"{{"overview": "A diver.", "top_k": {value}}}"#);
            serde_json::from_str::<ClassifyRequest>(&body).map(|request| request.top_k)
        };
        assert_eq!(top_k("3").unwrap(), Some(3));
        assert_eq!(top_k("8823.0").unwrap(), Some(8823));
        assert_eq!(top_k("4294967295.0").unwrap(), Some(u32::MAX));
        assert_eq!(top_k("null").unwrap(), None);
        assert_eq!(serde_json::from_str::<ClassifyRequest>(r#"{"overview": "A"}"#).unwrap().top_k, None);
        for wrong in ["1.5", "-1", "4294967296", "4294967296.0", "1e300", "\"3\"", "true"] {
            assert!(top_k(wrong).is_err(), "{wrong}");
        }
    }
}
