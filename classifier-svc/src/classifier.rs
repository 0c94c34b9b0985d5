//! Films to genres.

use std::sync::Arc;

use genre_model::GenreModel;
use ndarray::{ArrayView1, Axis};
use proto::classifier::v1::{ClassifyResponse, GenreScore, Movie};
use service_kit::{ApiError, Deadline};

use crate::encoder_client::EncoderClient;

/// A model and the encoder that it was fitted on.
pub struct Classifier {
    model: Arc<GenreModel>,
    encoder: EncoderClient,
}

impl Classifier {
    /// `encoder` accepts the fingerprint that `model` remembers.
    #[must_use]
    pub fn new(model: Arc<GenreModel>, encoder: EncoderClient) -> Self {
        Self { model, encoder }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &GenreModel {
        &self.model
    }

    /// One answer for each film, in order; `include_scores` adds all labels' probabilities.
    pub async fn classify(
        &self,
        movies: &[Movie],
        include_scores: bool,
        deadline: Deadline,
    ) -> Result<Vec<ClassifyResponse>, ApiError> {
        let template = &self.model.provenance().input_template;
        let texts = movies.iter().map(|movie| template.compose(&movie.title, &movie.overview)).collect();
        let vectors = self.encoder.encode(texts, self.model.mlp().dimension(), deadline).await?;
        let probabilities = self.model.mlp().probabilities(&vectors.values.view());
        let answers = probabilities.axis_iter(Axis(0)).zip(vectors.truncated).map(|(row, truncated)| {
            let (genres, scores) = self.genres(row);
            ClassifyResponse {
                genres,
                scores: if include_scores { scores } else { Vec::new() },
                model_version: self.model.version().to_owned(),
                truncated,
            }
        });
        Ok(answers.collect())
    }

    /// The predicted genres, most probable first, and all of them in the model's order.
    fn genres(&self, probabilities: ArrayView1<'_, f32>) -> (Vec<GenreScore>, Vec<GenreScore>) {
        let thresholds = self.model.thresholds();
        let scores: Vec<_> = self
            .model
            .labels()
            .iter()
            .zip(probabilities)
            .zip(thresholds.per_genre())
            .map(|((label, &probability), &threshold)| GenreScore {
                label: label.clone(),
                probability,
                threshold,
            })
            .collect();
        let mut genres: Vec<_> = scores
            .iter()
            .enumerate()
            .filter(|(index, score)| thresholds.predicts(*index, score.probability))
            .map(|(_, score)| score.clone())
            .collect();
        genres.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        (genres, scores)
    }
}
