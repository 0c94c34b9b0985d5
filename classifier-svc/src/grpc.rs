//! The RPCs of `movieclassifier.classifier.v1.ClassifierService`.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use proto::classifier::v1::classifier_service_server::{ClassifierService, ClassifierServiceServer};
use proto::classifier::v1::classify_stream_response::Result as StreamResult;
use proto::classifier::v1::{
    BatchClassifyRequest, BatchClassifyResponse, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest,
    ClassifyStreamResponse, GetModelRequest, GetModelResponse, Movie, MovieError,
};
use service_kit::{ApiError, FairPermit, malformed_item};
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

    /// Counts one movie of a stream in flight, once there is room.
    async fn admit_item(&self, request: ClassifyStreamRequest, call: &Call) -> Item {
        let movie = Movie { title: request.title, overview: request.overview };
        let genres = Selection::of_request(request.min_probability, request.top_k);
        let include = Include { genres, scores: request.include_scores, explanation: false };
        let in_flight = self.0.admit_item(&movie, include, call).await;
        Item { id: request.id, movie, include, in_flight }
    }

    /// Classifies one movie of a stream.
    async fn classify_item(&self, item: Item, call: &Call) -> ClassifyStreamResponse {
        let Item { id, movie, include, in_flight } = item;
        let result = match in_flight {
            Ok(in_flight) => self.0.classify_item(movie, include, call, in_flight).await,
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
        ClassifyStreamResponse { id, result: Some(result) }
    }
}

/// One movie of a stream.
struct Item {
    id: String,
    movie: Movie,
    include: Include,
    /// Counts it in flight, or says why it is not classified.
    in_flight: Result<FairPermit, ApiError>,
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
        let (admitting, server) = (self.clone(), self.clone());
        let in_flight = self.0.limits().stream_in_flight;
        // Spans of the movies are children of the stream's span.
        let span = Span::current();
        // The bound is backpressure: the next message is read only after a response has been sent.
        let responses = request
            .into_inner()
            // A movie over its caller's quota, or over the limit on movies in flight, waits here, and
            // the movies behind it are not read.
            .then(move |item| {
                let (server, call) = (admitting.clone(), call.clone());
                async move { Ok(server.admit_item(item.map_err(malformed_item)?, &call).await) }
            })
            .map(move |item: Result<Item, Status>| {
                let (server, call) = (server.clone(), item_call.clone());
                async move { Ok(server.classify_item(item?, &call).await) }.instrument(span.clone())
            })
            .buffer_unordered(in_flight);
        Ok(Response::new(Box::pin(responses)))
    }
}
