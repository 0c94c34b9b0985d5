//! The RPCs of `movieclassifier.classifier.v1.ClassifierService`.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use proto::classifier::v1::classifier_service_server::{ClassifierService, ClassifierServiceServer};
use proto::classifier::v1::classify_stream_response::Result as StreamResult;
use proto::classifier::v1::{
    BatchClassifyRequest, BatchClassifyResponse, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest,
    ClassifyStreamResponse, GetModelRequest, GetModelResponse, Movie, MovieError,
};
use service_kit::{ApiError, malformed_item};
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, Span};

use crate::call::Call;
use crate::classifier::Classifier;
use crate::pipeline::Include;
use crate::selection::Selection;

/// The handlers. They translate between messages and [`Classifier`].
#[derive(Clone)]
pub struct ClassifierServer(Classifier);

impl ClassifierServer {
    /// Handlers that call `classifier`.
    #[must_use]
    pub fn new(classifier: Classifier) -> Self {
        Self(classifier)
    }

    /// The handlers as a tonic service.
    #[must_use]
    pub fn into_grpc(self) -> ClassifierServiceServer<Self> {
        let max_message = self.0.limits().max_message_bytes();
        ClassifierServiceServer::new(self).max_decoding_message_size(max_message)
    }

    /// Classifies one movie of a stream. `charged` is the outcome of charging it to its caller.
    async fn classify_item(
        &self,
        request: ClassifyStreamRequest,
        call: &Call,
        charged: Result<(), ApiError>,
    ) -> ClassifyStreamResponse {
        let movie = Movie { title: request.title, overview: request.overview };
        let genres = Selection::of_request(request.min_probability, request.top_k);
        let include = Include { genres, scores: request.include_scores, explanation: false };
        let result = match charged {
            Ok(()) => self.0.classify(movie, include, call).await,
            Err(error) => Err(error),
        };
        let result = match result {
            Ok(response) => StreamResult::Classification(response),
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
        Ok(Response::new(self.0.model()))
    }

    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifyResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let movie = Movie { title: request.title, overview: request.overview };
        let genres = Selection::of_request(request.min_probability, request.top_k);
        let include = Include { genres, scores: request.include_scores, explanation: request.explain };
        Ok(Response::new(self.0.classify(movie, include, &call).await?))
    }

    async fn batch_classify(
        &self,
        request: Request<BatchClassifyRequest>,
    ) -> Result<Response<BatchClassifyResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let genres = Selection::of_request(request.min_probability, request.top_k);
        let include = Include { genres, scores: request.include_scores, explanation: false };
        let (results, model_version) = self.0.classify_batch(&request.movies, include, &call).await?;
        Ok(Response::new(BatchClassifyResponse { results, model_version }))
    }

    type ClassifyStreamStream = Pin<Box<dyn Stream<Item = Result<ClassifyStreamResponse, Status>> + Send>>;

    async fn classify_stream(
        &self,
        request: Request<Streaming<ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let call = Call::of(&request);
        let item_call = call.item();
        let server = self.clone();
        let in_flight = self.0.limits().stream_in_flight;
        // Spans of the movies are children of the stream's span.
        let span = Span::current();
        // The bound is backpressure: the next message is read only after a response has been sent.
        let responses = request
            .into_inner()
            // A movie over its caller's quota waits here, and the movies behind it are not read.
            .then(move |item| {
                let call = call.clone();
                async move { (item, call.caller.charge_waiting(call.deadline).await) }
            })
            .map(move |(item, charged)| {
                let (server, call) = (server.clone(), item_call.clone());
                async move { Ok(server.classify_item(item.map_err(malformed_item)?, &call, charged).await) }
                    .instrument(span.clone())
            })
            .buffer_unordered(in_flight);
        Ok(Response::new(Box::pin(responses)))
    }
}
