//! `movieclassifier.classifier.v1.ClassifierService`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use proto::classifier::v1::classifier_service_server::{ClassifierService, ClassifierServiceServer};
use proto::classifier::v1::classify_stream_response::Result as StreamResult;
use proto::classifier::v1::{
    BatchClassifyRequest, BatchClassifyResponse, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest,
    ClassifyStreamResponse, GetModelRequest, GetModelResponse, Movie, MovieError,
};
use service_kit::{ApiError, Deadline, FieldViolation, check_text};
use tonic::{Request, Response, Status, Streaming};

use crate::classifier::Classifier;
use crate::settings::Limits;

/// The handlers.
#[derive(Clone)]
pub struct ClassifierServer {
    classifier: Arc<Classifier>,
    limits: Limits,
}

impl ClassifierServer {
    /// Handlers that check requests against the configured limits.
    #[must_use]
    pub fn new(classifier: Arc<Classifier>, limits: Limits) -> Self {
        Self { classifier, limits }
    }

    /// As a service that a gRPC server takes.
    #[must_use]
    pub fn into_grpc(self) -> ClassifierServiceServer<Self> {
        let max_message = self.limits.max_message_bytes();
        ClassifierServiceServer::new(self).max_decoding_message_size(max_message)
    }

    /// What is wrong with a film; `path` is where it stands in the request, such as `movies[3].`.
    fn violations(&self, path: &str, movie: &Movie) -> Vec<FieldViolation> {
        let max = self.limits.max_title_bytes;
        let title = (movie.title.len() > max).then(|| FieldViolation {
            field: format!("{path}title"),
            description: format!("expected at most {max} bytes, found {}", movie.title.len()),
            reason: "TEXT_TOO_LONG",
        });
        let overview = check_text(format!("{path}overview"), &movie.overview, self.limits.max_overview_bytes);
        title.into_iter().chain(overview).collect()
    }

    fn check_batch(&self, movies: &[Movie]) -> Result<(), ApiError> {
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
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(ApiError::Invalid(violations)) }
    }

    async fn classify_one(
        &self,
        movie: Movie,
        include_scores: bool,
        deadline: Deadline,
    ) -> Result<ClassifyResponse, ApiError> {
        let violations = self.violations("", &movie);
        if !violations.is_empty() {
            return Err(ApiError::Invalid(violations));
        }
        let mut answers = self.classifier.classify(&[movie], include_scores, deadline).await?;
        answers
            .pop()
            .ok_or_else(|| ApiError::Internal { message: "expected one answer, found none".to_owned() })
    }

    async fn classify_item(
        &self,
        request: ClassifyStreamRequest,
        deadline: Deadline,
    ) -> ClassifyStreamResponse {
        let movie = Movie { title: request.title, overview: request.overview };
        let result = match self.classify_one(movie, request.include_scores, deadline).await {
            Ok(answer) => StreamResult::Classification(answer),
            Err(error) => {
                let item = error.to_item();
                StreamResult::Error(MovieError {
                    code: item.code,
                    message: item.message,
                    reason: item.reason,
                })
            }
        };
        ClassifyStreamResponse { id: request.id, result: Some(result) }
    }
}

#[tonic::async_trait]
impl ClassifierService for ClassifierServer {
    async fn get_model(
        &self,
        _request: Request<GetModelRequest>,
    ) -> Result<Response<GetModelResponse>, Status> {
        let model = self.classifier.model();
        let provenance = model.provenance();
        Ok(Response::new(GetModelResponse {
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
        }))
    }

    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifyResponse>, Status> {
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        let movie = Movie { title: request.title, overview: request.overview };
        Ok(Response::new(self.classify_one(movie, request.include_scores, deadline).await?))
    }

    async fn batch_classify(
        &self,
        request: Request<BatchClassifyRequest>,
    ) -> Result<Response<BatchClassifyResponse>, Status> {
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        self.check_batch(&request.movies)?;
        let results = self.classifier.classify(&request.movies, request.include_scores, deadline).await?;
        let model_version = self.classifier.model().version().to_owned();
        Ok(Response::new(BatchClassifyResponse { results, model_version }))
    }

    type ClassifyStreamStream = Pin<Box<dyn Stream<Item = Result<ClassifyStreamResponse, Status>> + Send>>;

    async fn classify_stream(
        &self,
        request: Request<Streaming<ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let deadline = Deadline::of(&request);
        let server = self.clone();
        // Bounded as in the encoder: what is not answered yet holds back what is not read yet.
        let answers = request
            .into_inner()
            .map(move |item| {
                let server = server.clone();
                async move { Ok(server.classify_item(item?, deadline).await) }
            })
            .buffer_unordered(self.limits.stream_in_flight);
        Ok(Response::new(Box::pin(answers)))
    }
}
