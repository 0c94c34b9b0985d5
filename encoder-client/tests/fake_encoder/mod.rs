//! An encoder service in this process whose behaviour a test chooses.

// Each test binary has its own copy, and none uses all of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::Stream;
use genre_model::{EncoderIdentity, Fingerprint};
use proto::encoder::v1::encoder_service_server::{EncoderService, EncoderServiceServer};
use proto::encoder::v1::{
    Embedding, EncodeRequest, EncodeResponse, EncodeStreamRequest, EncodeStreamResponse, GetEncoderRequest,
    GetEncoderResponse,
};
use service_kit::ApiError;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// The identity of the encoder, unless it is another.
pub(crate) fn expected() -> EncoderIdentity {
    EncoderIdentity {
        id: "fake".to_owned(),
        version: "1".to_owned(),
        fingerprint: Fingerprint::parse("ab".repeat(32)).unwrap(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Healthy,
    Broken,
    Full(Duration),
    Stalled,
    Slow(Duration),
    Garbage,
    OtherEncoder,
    Rejecting,
}

#[derive(Clone)]
pub(crate) struct FakeEncoder {
    pub(crate) behaviour: Arc<Mutex<Behaviour>>,
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) address: SocketAddr,
    /// Bytes of the longest text so far.
    pub(crate) longest_text: Arc<Mutex<usize>>,
}

impl FakeEncoder {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let fake = Self { address: incoming.local_addr().unwrap(), ..Self::new(behaviour) };
        let service = EncoderServiceServer::new(fake.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        fake
    }

    /// An encoder without a listener.
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let behaviour = Arc::new(Mutex::new(behaviour));
        let address = ([0, 0, 0, 0], 0).into();
        Self { behaviour, calls: Arc::default(), address, longest_text: Arc::default() }
    }

    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn behaviour(&self) -> Behaviour {
        *self.behaviour.lock().unwrap()
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn fingerprint(&self) -> String {
        if self.behaviour() == Behaviour::OtherEncoder { "cd" } else { "ab" }.repeat(32)
    }
}

#[tonic::async_trait]
impl EncoderService for FakeEncoder {
    async fn get_encoder(
        &self,
        _: Request<GetEncoderRequest>,
    ) -> Result<Response<GetEncoderResponse>, Status> {
        Ok(Response::new(GetEncoderResponse {
            id: "fake".to_owned(),
            version: "1".to_owned(),
            max_text_bytes: 1001,
            fingerprint: self.fingerprint(),
            dimension: 2,
            ..GetEncoderResponse::default()
        }))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let texts = request.into_inner().texts;
        let longest = texts.iter().map(String::len).max().unwrap_or_default();
        *self.longest_text.lock().unwrap() = longest;
        let mut values = vec![1.0, 2.0];
        match self.behaviour() {
            Behaviour::Healthy | Behaviour::OtherEncoder => {}
            Behaviour::Broken => return Err(Status::unavailable("broken")),
            Behaviour::Full(retry_after) => {
                return Err(ApiError::Overloaded { message: "full".to_owned(), retry_after }.into());
            }
            Behaviour::Stalled => std::future::pending().await,
            Behaviour::Slow(time) => tokio::time::sleep(time).await,
            Behaviour::Garbage => values = vec![f32::NAN],
            Behaviour::Rejecting => return Err(ApiError::invalid("texts[0]", "EMPTY_TEXT", "blank").into()),
        }
        let embedding = Embedding { values, token_count: 3, truncated: false };
        let embeddings = vec![embedding; texts.len()];
        Ok(Response::new(EncodeResponse { embeddings, fingerprint: self.fingerprint() }))
    }

    type EncodeStreamStream = Pin<Box<dyn Stream<Item = Result<EncodeStreamResponse, Status>> + Send>>;

    async fn encode_stream(
        &self,
        _: Request<Streaming<EncodeStreamRequest>>,
    ) -> Result<Response<Self::EncodeStreamStream>, Status> {
        Err(Status::unimplemented("the client makes unary calls"))
    }
}
