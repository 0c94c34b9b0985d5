//! Movies to genres: composes the texts, encodes them, scores the vectors and applies the
//! thresholds.

use std::sync::Arc;
use std::time::Duration;

use encoder_client::{EncoderClient, EncoderError, Vectors};
use genre_model::{EncoderIdentity, GenreModel};
use ndarray::{Array2, ArrayView1, Axis};
use proto::classifier::v1::{ClassifyResponse, GenreScore, Movie};
use service_kit::{ApiError, CallerId, Deadline, FairLimit, FairPermit, FieldViolation, amount_of};
use tokio::runtime::Handle;

use crate::call::Call;
use crate::explain::occlusion::Occlusions;
use crate::model_store::ModelStore;
use crate::selection::Selection;

/// The current model and the encoders. Clones share them.
#[derive(Clone)]
pub(crate) struct Pipeline {
    models: ModelStore,
    encoders: EncoderClient,
    /// Movies in flight, variants of explanations included.
    in_flight: Arc<FairLimit>,
    /// Turns of scoring, as many at a time as there are threads.
    turns: Arc<FairLimit>,
    /// Movies of streams that ask a full encoder again.
    asking_again: Arc<FairLimit>,
}

/// What is counted in flight, as errors name it.
const MOVIES: &str = "movies (one for each 4 KiB)";

/// Returns how many movies in flight a movie counts as.
fn amount(movie: &Movie) -> u64 {
    amount_of(movie.title.len() + movie.overview.len())
}

/// What a response includes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Include {
    /// Which labels are predicted.
    pub genres: Selection,
    /// The probabilities of all labels.
    pub scores: bool,
    /// The contribution of each segment of the movie.
    pub explanation: bool,
}

impl Pipeline {
    /// Returns a pipeline. `encoders` must run the encoder that the models of `models` were fitted
    /// on. At most `movies_in_flight` movies are in the pipeline.
    pub(crate) fn new(models: ModelStore, encoders: EncoderClient, movies_in_flight: usize) -> Self {
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        let in_flight = FairLimit::new(movies_in_flight as u64);
        // One caller gets half, which is a turn for each thread.
        let turns = FairLimit::new(2 * threads as u64);
        Self { models, encoders, in_flight, turns, asking_again: FairLimit::new(MAX_ASKING_AGAIN) }
    }

    /// The model that the next call uses.
    pub(crate) fn model(&self) -> Arc<GenreModel> {
        self.models.current()
    }

    /// Counts one movie of a stream in flight. Waits where another call is rejected.
    pub(crate) async fn admit_item(
        &self,
        movie: &Movie,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<FairPermit, ApiError> {
        self.in_flight.admit(caller, amount(movie), true, deadline, MOVIES).await
    }

    /// Returns one response for each movie, in order, and the version of the one model that scored
    /// them all. `in_flight` counts the movies, if they already are in flight. Only admitted movies are
    /// charged to the caller's quota; `field` names them in the request.
    pub(crate) async fn classify(
        &self,
        field: &str,
        movies: &[Movie],
        include: Include,
        call: &Call,
        in_flight: Option<FairPermit>,
    ) -> Result<(Vec<ClassifyResponse>, String), ApiError> {
        let model = self.model();
        let template = &model.provenance().input_template;
        let occlusions: Vec<_> = if include.explanation {
            movies.iter().map(|movie| Occlusions::of(movie, template.uses_title())).collect()
        } else {
            Vec::new()
        };
        let variants: usize = occlusions.iter().map(|occlusion| occlusion.movies.len()).sum();
        // One encoder call for everything: the movies first, then the variants of each explanation.
        let all = || movies.iter().chain(occlusions.iter().flat_map(|occlusion| &occlusion.movies));
        let caller = call.caller.id();
        let _in_flight = if let Some(in_flight) = in_flight {
            in_flight
        } else {
            let amount = all().map(amount).sum();
            self.in_flight.admit(caller, amount, call.is_item, call.deadline, MOVIES).await?
        };
        call.caller.charge(field, movies.len())?;
        call.caller.charge("explain", variants)?;
        let mut texts = Vec::new();
        for (index, movie) in all().enumerate() {
            yield_after(TEXTS_PER_TURN, index).await;
            texts.push(template.compose(&movie.title, &movie.overview));
        }
        let encoder = &model.provenance().encoder;
        let dimension = model.mlp().dimension();
        let vectors = self.encode(texts, dimension, encoder, call).await?;
        // Over HTTP, no layer ends a call at its deadline.
        let scoring = self.probabilities(&model, &vectors.values, all(), caller);
        let probabilities = call.deadline.bound(scoring).await?;

        let scored = probabilities.slice_axis(Axis(0), (..movies.len()).into());
        let mut responses: Vec<_> = scored
            .axis_iter(Axis(0))
            .zip(vectors.truncated)
            .map(|(row, truncated)| response(&model, row, include, truncated))
            .collect();
        let mut next = movies.len();
        for ((response, row), occlusion) in responses.iter_mut().zip(scored.rows()).zip(occlusions) {
            let end = next + occlusion.movies.len();
            let without = probabilities.slice_axis(Axis(0), (next..end).into());
            let labels = explained_labels(&model, response, include);
            response.explanation = Some(occlusion.explain(model.labels(), &labels, row, without));
            next = end;
        }
        Ok((responses, model.version().to_owned()))
    }
}

/// Renames the field that the encoder rejected; clients of the classifier know it as the overview.
fn name_the_overview(error: EncoderError) -> ApiError {
    match ApiError::from(error) {
        ApiError::Invalid(violations) => {
            let rename = |violation| FieldViolation { field: "overview".to_owned(), ..violation };
            ApiError::Invalid(violations.into_iter().map(rename).collect())
        }
        other => other,
    }
}

/// Movies of streams that ask a full encoder again at a time. Each of the others would be a call
/// that is rejected, and their cost would slow down the encoder that they wait for.
const MAX_ASKING_AGAIN: u64 = 4;
/// The longest pause before a movie of a stream asks a full encoder again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Texts to compose before other tasks get a turn.
const TEXTS_PER_TURN: usize = 8;
/// Rows to score in one turn. More rows would delay other calls noticeably.
const ROWS_PER_TURN: usize = 2;

impl Pipeline {
    /// Encodes texts to vectors. If the encoder is full, a unary call is rejected. A movie of a stream
    /// waits, for as long as the stream's deadline allows, so that the stream is read no faster than
    /// it is served.
    async fn encode(
        &self,
        mut texts: Vec<String>,
        dimension: usize,
        encoder: &EncoderIdentity,
        call: &Call,
    ) -> Result<Vectors, ApiError> {
        let caller = call.caller.id();
        let mut turn = None;
        loop {
            let asked = if call.is_item { texts.clone() } else { std::mem::take(&mut texts) };
            let vectors = self.encoders.encode(asked, dimension, encoder, Some(caller), call.deadline).await;
            let pause = match vectors.map_err(name_the_overview) {
                Err(ApiError::Overloaded { retry_after, .. }) if call.is_item => {
                    retry_after.min(LONGEST_PAUSE)
                }
                other => return other,
            };
            drop(turn.take());
            let again = async {
                let turn = self.asking_again.acquire(caller, 1).await;
                tokio::time::sleep(pause).await;
                turn
            };
            turn = Some(call.deadline.bound(again).await?);
        }
    }

    /// Returns probabilities of shape `[rows, labels]`, for one movie a row. Each row is scored
    /// alone, so its batch does not change it. Batches are scored in turns, which callers share.
    async fn probabilities<'a>(
        &self,
        model: &GenreModel,
        vectors: &Array2<f32>,
        movies: impl Iterator<Item = &'a Movie> + Send,
        caller: CallerId,
    ) -> Array2<f32> {
        let mut rows = Array2::zeros((vectors.nrows(), model.labels().len()));
        let mut turn = None;
        for (index, (vector, movie)) in vectors.rows().into_iter().zip(movies).enumerate() {
            if index.is_multiple_of(ROWS_PER_TURN) && vectors.nrows() > ROWS_PER_TURN {
                drop(turn.take());
                yield_after(ROWS_PER_TURN, index).await;
                turn = Some(self.turns.acquire(caller, 1).await);
            }
            let words = model.word_features(&movie.title, &movie.overview);
            rows.row_mut(index).assign(&model.probabilities_of(&vector, &words));
        }
        rows
    }
}

/// Gives other tasks a turn before the item at `index`, once for every `items`.
async fn yield_after(items: usize, index: usize) {
    if index > 0 && index.is_multiple_of(items) {
        tokio::task::yield_now().await;
    }
}

fn response(
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
            threshold: include.genres.threshold(threshold),
        })
        .collect();
    ClassifyResponse {
        genres: include.genres.of(&scores, thresholds),
        scores: if include.scores { scores } else { Vec::new() },
        model_version: model.version().to_owned(),
        truncated,
        explanation: None,
    }
}

/// Returns the labels that an explanation covers: the predicted ones in the order of the response,
/// or all.
fn explained_labels(model: &GenreModel, response: &ClassifyResponse, include: Include) -> Vec<usize> {
    if include.scores {
        return (0..model.labels().len()).collect();
    }
    let index = |genre: &GenreScore| model.labels().iter().position(|label| *label == genre.label);
    response.genres.iter().filter_map(index).collect()
}
