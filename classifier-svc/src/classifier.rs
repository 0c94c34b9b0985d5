//! The checked entry point that gRPC, REST and the command line share.

use encoder_client::EncoderClient;
use proto::classifier::v1::{ClassifyResponse, GetModelResponse, Movie};
use service_kit::{ApiError, FairPermit, FieldViolation, check_text_length};

use crate::call::Call;
use crate::config::Limits;
use crate::model_store::ModelStore;
use crate::pipeline::{Include, Pipeline};

/// Checks requests against the limits, then runs them through the pipeline. Clones share the model
/// and encoders.
#[derive(Clone)]
pub struct Classifier {
    pipeline: Pipeline,
    limits: Limits,
}

impl Classifier {
    /// A classifier that checks requests against `limits` and asks `encoders` for vectors.
    #[must_use]
    pub fn new(models: ModelStore, encoders: EncoderClient, limits: Limits) -> Self {
        Self { pipeline: Pipeline::new(models, encoders, limits.movies_in_flight), limits }
    }

    /// The limits of a request.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Describes the current model.
    #[must_use]
    pub fn model(&self) -> GetModelResponse {
        let model = self.pipeline.model();
        let provenance = model.provenance();
        GetModelResponse {
            labels: model.labels().to_vec(),
            thresholds: model.thresholds().per_genre().to_vec(),
            threshold_rule: model.thresholds().rule().to_owned(),
            encoder_id: provenance.encoder.id.clone(),
            encoder_version: provenance.encoder.version.clone(),
            encoder_fingerprint: provenance.encoder.fingerprint.to_string(),
            model_version: model.version().to_owned(),
            input_template: provenance.input_template.to_string(),
            metrics: provenance.metrics.clone().into_iter().collect(),
            max_batch_size: self.limits.max_batch_size as u32,
        }
    }

    /// Classifies one movie, and charges it to the caller's quota; an explanation also costs one
    /// text for each of its segments.
    pub async fn classify(
        &self,
        movie: Movie,
        include: Include,
        call: &Call,
    ) -> Result<ClassifyResponse, ApiError> {
        self.check(&movie, include)?;
        self.classify_checked(movie, include, call, None).await
    }

    /// Charges one movie of a stream to its caller's quota, and counts it in flight. Waits where another
    /// call is rejected, so a stream that reads no further meanwhile holds one such movie at most.
    ///
    /// # Errors
    /// Returns [`ApiError::Invalid`] for a movie or options outside the limits, and
    /// [`ApiError::DeadlineExceeded`] if the deadline passes first.
    pub async fn admit_item(
        &self,
        movie: &Movie,
        include: Include,
        call: &Call,
    ) -> Result<FairPermit, ApiError> {
        call.caller.charge_waiting(call.deadline).await?;
        self.check(movie, include)?;
        self.pipeline.admit_item(movie, call.caller.id(), call.deadline).await
    }

    /// Classifies one movie of a stream, which is in flight by `in_flight` until its response.
    pub async fn classify_item(
        &self,
        movie: Movie,
        include: Include,
        call: &Call,
        in_flight: FairPermit,
    ) -> Result<ClassifyResponse, ApiError> {
        self.classify_checked(movie, include, call, Some(in_flight)).await
    }

    async fn classify_checked(
        &self,
        movie: Movie,
        include: Include,
        call: &Call,
        in_flight: Option<FairPermit>,
    ) -> Result<ClassifyResponse, ApiError> {
        let (mut responses, _) = self.pipeline.classify("(body)", &[movie], include, call, in_flight).await?;
        responses
            .pop()
            .ok_or_else(|| ApiError::Internal { message: "expected one response, found none".to_owned() })
    }

    fn check(&self, movie: &Movie, include: Include) -> Result<(), ApiError> {
        let mut violations = self.violations("", movie);
        violations.extend(include.genres.violations());
        if violations.is_empty() { Ok(()) } else { Err(ApiError::Invalid(violations)) }
    }

    /// Classifies a batch, as a whole or not at all. Returns the responses in order, and the
    /// version of the one model that scored them all.
    pub async fn classify_batch(
        &self,
        movies: &[Movie],
        include: Include,
        call: &Call,
    ) -> Result<(Vec<ClassifyResponse>, String), ApiError> {
        let max = self.limits.max_batch_size;
        if movies.is_empty() || movies.len() > max {
            let reason = if movies.is_empty() { "EMPTY_BATCH" } else { "BATCH_TOO_LARGE" };
            let description = format!("expected 1 to {max} movies, found {}", movies.len());
            return Err(ApiError::invalid("movies", reason, description));
        }
        let violations: Vec<_> = movies
            .iter()
            .enumerate()
            .flat_map(|(index, movie)| self.violations(&format!("movies[{index}]."), movie))
            .chain(include.genres.violations())
            .collect();
        if !violations.is_empty() {
            return Err(ApiError::Invalid(violations));
        }
        self.pipeline.classify("movies", movies, include, call, None).await
    }

    /// Returns all violations of a movie. `path` is the prefix of its field paths, such as
    /// `movies[3].`.
    fn violations(&self, path: &str, movie: &Movie) -> Vec<FieldViolation> {
        let check = |field, text, max, may_be_blank| {
            check_text_length(format!("{path}{field}"), text, max, may_be_blank)
        };
        let title = check("title", &movie.title, self.limits.max_title_chars, true);
        let overview = check("overview", &movie.overview, self.limits.max_overview_chars, false);
        title.into_iter().chain(overview).collect()
    }
}
