//! Movies to genres.

use std::sync::Arc;

use genre_model::{GenreModel, WordFeatures};
use ndarray::{Array2, ArrayView1, Axis};
use proto::classifier::v1::{ClassifyResponse, GenreScore, Movie};
use service_kit::{ApiError, Deadline, blocking};

use crate::encoder_pool::EncoderPool;
use crate::explain::occlusion::Occlusions;
use crate::model_store::ModelStore;

/// The current model and the encoders. Clones share them.
#[derive(Clone)]
pub(crate) struct Pipeline {
    models: ModelStore,
    encoders: EncoderPool,
}

/// What to answer with beside the genres.
#[derive(Debug, Clone, Copy, Default)]
pub struct Include {
    /// The probabilities of all labels.
    pub scores: bool,
    /// What each sentence adds.
    pub explanation: bool,
}

impl Pipeline {
    /// `encoders` are those that the models of `models` were fitted on.
    pub(crate) fn new(models: ModelStore, encoders: EncoderPool) -> Self {
        Self { models, encoders }
    }

    /// The model that the next call begins with.
    pub(crate) fn model(&self) -> Arc<GenreModel> {
        self.models.current()
    }

    /// One answer for each movie, in order, and the version of the one model that gave them all.
    pub(crate) async fn classify(
        &self,
        movies: &[Movie],
        include: Include,
        deadline: Deadline,
    ) -> Result<(Vec<ClassifyResponse>, String), ApiError> {
        let model = self.model();
        let template = &model.provenance().input_template;
        let occlusions: Vec<_> = if include.explanation {
            movies.iter().map(|movie| Occlusions::of(movie, template.uses_title())).collect()
        } else {
            Vec::new()
        };
        // All in one call: the movies first, then what each explanation leaves of them.
        let all = || movies.iter().chain(occlusions.iter().flat_map(|occlusion| &occlusion.movies));
        let texts = all().map(|movie| template.compose(&movie.title, &movie.overview)).collect();
        let words = all().map(|movie| words_for(&model, movie)).collect();
        let encoder = &model.provenance().encoder;
        let vectors = self.encoders.encode(texts, model.mlp().dimension(), encoder, deadline).await?;
        let probabilities = probabilities(&model, vectors.values, words).await?;

        let movies = probabilities.slice_axis(Axis(0), (..movies.len()).into());
        let mut answers: Vec<_> = movies
            .axis_iter(Axis(0))
            .zip(vectors.truncated)
            .map(|(row, truncated)| answer(&model, row, include, truncated))
            .collect();
        let mut next = movies.len();
        for ((answer, row), occlusion) in answers.iter_mut().zip(movies.rows()).zip(occlusions) {
            let end = next + occlusion.movies.len();
            let without = probabilities.slice_axis(Axis(0), (next..end).into());
            let shown = shown_labels(&model, answer, include);
            answer.explanation = Some(occlusion.explain(model.labels(), &shown, row, without));
            next = end;
        }
        Ok((answers, model.version().to_owned()))
    }
}

/// Rows that are run where they are; more would hold up other calls for longer than half a millisecond.
const FEW_ROWS: usize = 2;

/// Probabilities of shape `[rows, labels]`, each row as if it were alone: what a movie gets does not depend on company.
async fn probabilities(
    model: &Arc<GenreModel>,
    vectors: Array2<f32>,
    words: Vec<WordFeatures>,
) -> Result<Array2<f32>, ApiError> {
    let run = |model: &GenreModel, vectors: &Array2<f32>, words: &[WordFeatures]| {
        let mut rows = Array2::zeros((vectors.nrows(), model.labels().len()));
        for ((vector, movie), mut row) in vectors.rows().into_iter().zip(words).zip(rows.rows_mut()) {
            row.assign(&model.probabilities_of(&vector, movie));
        }
        rows
    };
    if vectors.nrows() <= FEW_ROWS {
        return Ok(run(model, &vectors, &words));
    }
    let model = model.clone();
    blocking(move || run(&model, &vectors, &words))
        .await
        .map_err(|error| ApiError::Internal { message: format!("the model failed: {error}") })
}

/// A movie's words, where the model asks for them.
fn words_for(model: &GenreModel, movie: &Movie) -> WordFeatures {
    match model.words() {
        Some(_) => model.provenance().input_template.words(&movie.title, &movie.overview),
        None => WordFeatures::default(),
    }
}

fn answer(
    model: &GenreModel,
    probabilities: ArrayView1<'_, f32>,
    include: Include,
    truncated: bool,
) -> ClassifyResponse {
    let thresholds = model.thresholds();
    let scores: Vec<_> = model
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
    ClassifyResponse {
        genres,
        scores: if include.scores { scores } else { Vec::new() },
        model_version: model.version().to_owned(),
        truncated,
        explanation: None,
    }
}

/// The labels that an explanation tells of: the predicted ones as they are answered, or all.
fn shown_labels(model: &GenreModel, answer: &ClassifyResponse, include: Include) -> Vec<usize> {
    if include.scores {
        return (0..model.labels().len()).collect();
    }
    let index = |genre: &GenreScore| model.labels().iter().position(|label| *label == genre.label);
    answer.genres.iter().filter_map(index).collect()
}
