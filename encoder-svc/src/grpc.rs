//! `movieclassifier.encoder.v1.EncoderService`.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use proto::encoder::v1::encode_stream_response::Result as StreamResult;
use proto::encoder::v1::encoder_service_server::{EncoderService, EncoderServiceServer};
use proto::encoder::v1::{
    Embedding, EncodeRequest, EncodeResponse, EncodeStreamRequest, EncodeStreamResponse, GetEncoderRequest,
    GetEncoderResponse, Priority, TextError,
};
use service_kit::{ApiError, Caller, CallerId, Deadline, FairPermit, malformed_item};
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, Span};

use crate::calibration::Calibration;
use crate::limited_encoder::LimitedEncoder;
use crate::scheduler::entry::{Class, Reply};

/// The handlers of the service. They translate between messages and [`LimitedEncoder`].
#[derive(Clone)]
pub struct EncoderServer(LimitedEncoder);

impl EncoderServer {
    /// Creates handlers that call `encoder`.
    #[must_use]
    pub fn new(encoder: LimitedEncoder) -> Self {
        Self(encoder)
    }

    /// Wraps the handlers as a tonic service.
    #[must_use]
    pub fn into_grpc(self) -> EncoderServiceServer<Self> {
        let max_message = self.0.limits().max_message_bytes();
        EncoderServiceServer::new(self).max_decoding_message_size(max_message)
    }

    /// Encodes one text of a stream. `admitted` is the outcome of counting it in flight.
    async fn encode_item(
        &self,
        request: EncodeStreamRequest,
        caller: CallerId,
        deadline: Deadline,
        admitted: Result<FairPermit, ApiError>,
    ) -> EncodeStreamResponse {
        let class = Class::from(request.priority());
        let result = match admitted {
            Ok(in_flight) => self.0.encode_item(request.text, class, caller, deadline, in_flight).await,
            Err(error) => Err(error),
        };
        let result = match result {
            Ok(reply) => StreamResult::Embedding(embedding(reply)),
            Err(error) => {
                let item = error.to_item();
                StreamResult::Error(TextError { code: item.code, message: item.message, reason: item.reason })
            }
        };
        let fingerprint = self.0.encoder().fingerprint().to_owned();
        EncodeStreamResponse { id: request.id, result: Some(result), fingerprint }
    }
}

fn calibration(found: &Calibration) -> proto::encoder::v1::Calibration {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    proto::encoder::v1::Calibration {
        one_thread_ms: milliseconds(found.one_thread),
        all_cores_ms: found.all_cores.map_or(0.0, milliseconds),
        all_core_worker: found.uses_all_cores,
    }
}

fn embedding(reply: Reply) -> Embedding {
    Embedding { values: reply.vector, token_count: reply.token_count as u32, truncated: reply.truncated }
}

impl From<Priority> for Class {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Unspecified | Priority::Online => Self::Online,
            Priority::Bulk => Self::Bulk,
        }
    }
}

#[tonic::async_trait]
impl EncoderService for EncoderServer {
    async fn get_encoder(
        &self,
        _request: Request<GetEncoderRequest>,
    ) -> Result<Response<GetEncoderResponse>, Status> {
        let encoder = self.0.encoder().description();
        Ok(Response::new(GetEncoderResponse {
            id: encoder.id.clone(),
            version: encoder.version.clone(),
            fingerprint: encoder.fingerprint.clone(),
            dimension: encoder.dimension as u32,
            max_tokens: encoder.max_tokens as u32,
            max_batch_size: self.0.limits().max_batch_size as u32,
            max_text_bytes: self.0.limits().max_text_bytes as u32,
            calibration: Some(calibration(self.0.encoder().calibration())),
        }))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        let (caller, deadline) = (Caller::of(&request), Deadline::of(&request));
        let request = request.into_inner();
        let class = Class::from(request.priority());
        let replies = self.0.encode("texts", request.texts, class, &caller, deadline).await?;
        Ok(Response::new(EncodeResponse {
            embeddings: replies.into_iter().map(embedding).collect(),
            fingerprint: self.0.encoder().fingerprint().to_owned(),
        }))
    }

    type EncodeStreamStream = Pin<Box<dyn Stream<Item = Result<EncodeStreamResponse, Status>> + Send>>;

    async fn encode_stream(
        &self,
        request: Request<Streaming<EncodeStreamRequest>>,
    ) -> Result<Response<Self::EncodeStreamStream>, Status> {
        let (caller, deadline) = (Caller::of(&request), Deadline::of(&request));
        let (server, encoder, id) = (self.clone(), self.0.clone(), caller.id());
        // The parent of the spans of the stream's texts.
        let span = Span::current();
        // While `stream_in_flight` texts are in flight, or their responses are not read, no further
        // message is read. HTTP/2 flow control then slows the client down.
        let responses = request
            .into_inner()
            // A text over its caller's quota, or over the limit on texts in flight, waits here, and
            // the texts behind it are not read.
            .then(move |item| {
                let (encoder, caller) = (encoder.clone(), caller.clone());
                async move {
                    let request = item.map_err(malformed_item)?;
                    let admitted = encoder.admit_item(&request.text, &caller, deadline).await;
                    Ok::<_, Status>((request, admitted))
                }
            })
            .map(move |item| {
                let server = server.clone();
                async move {
                    let (request, admitted) = item?;
                    Ok::<_, Status>(server.encode_item(request, id, deadline, admitted).await)
                }
                .instrument(span.clone())
            })
            .buffer_unordered(self.0.limits().stream_in_flight);
        Ok(Response::new(Box::pin(responses)))
    }
}
