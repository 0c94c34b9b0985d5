//! An encoder service in this process that returns synthetic vectors and fails on request.

// Each test binary compiles its own copy and uses only part of it.
#![allow(dead_code)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::BoxStream;
use proto::encoder::v1::encoder_service_server::{EncoderService, EncoderServiceServer};
use proto::encoder::v1::{
    Embedding, EncodeRequest, EncodeResponse, EncodeStreamRequest, EncodeStreamResponse, GetEncoderRequest,
    GetEncoderResponse, Priority,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(crate) const DIMENSION: usize = 16;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Failure {
    /// The queue is full; a retry may follow at once.
    Busy,
    /// An internal error.
    Internal,
    /// The vectors come from another encoder.
    OtherFingerprint,
}

/// The calls that fail, by number from 0, and how.
pub(crate) type Fault = (fn(usize) -> bool, Failure);

#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    pub failure: Option<Fault>,
    pub fingerprint: Option<&'static str>,
    /// The duration of a call.
    pub delay: Duration,
}

#[derive(Debug)]
pub(crate) struct FakeEncoder {
    behaviour: Behaviour,
    pub calls: AtomicUsize,
    /// Texts whose vectors were returned.
    pub encoded: Mutex<Vec<String>>,
}

impl FakeEncoder {
    pub(crate) fn encoded(&self) -> usize {
        self.encoded.lock().unwrap().len()
    }

    pub(crate) fn distinct(&self) -> usize {
        self.encoded.lock().unwrap().iter().collect::<HashSet<_>>().len()
    }

    fn fingerprint(&self) -> String {
        self.behaviour.fingerprint.unwrap_or("ab").repeat(32)
    }
}

/// Starts the service on a free loopback port. It stops with the runtime.
pub(crate) async fn start(behaviour: Behaviour) -> (String, Arc<FakeEncoder>) {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let encoder = Arc::new(FakeEncoder { behaviour, calls: AtomicUsize::new(0), encoded: Mutex::default() });
    let service = EncoderServiceServer::from_arc(encoder.clone());
    let server = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (url, encoder)
}

/// Returns the vector of a text, a pure function.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let sum: u64 = text.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    (0..DIMENSION as u64).map(|i| ((sum % 10_007) as f32 * 0.01 + i as f32).sin()).collect()
}

#[tonic::async_trait]
impl EncoderService for FakeEncoder {
    async fn get_encoder(
        &self,
        _: Request<GetEncoderRequest>,
    ) -> Result<Response<GetEncoderResponse>, Status> {
        Ok(Response::new(GetEncoderResponse {
            id: "fake-16".to_owned(),
            version: "1".to_owned(),
            fingerprint: self.fingerprint(),
            dimension: DIMENSION as u32,
            max_tokens: 128,
            max_batch_size: 8,
            max_text_bytes: 1000,
            calibration: None,
        }))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        let request = request.into_inner();
        assert_eq!(request.priority(), Priority::Bulk);
        assert!(
            (1..=8).contains(&request.texts.len()) && request.texts.iter().all(|text| text.len() <= 1000)
        );
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.behaviour.delay).await;
        let mut fingerprint = self.fingerprint();
        match self.behaviour.failure.filter(|(fails, _)| fails(call)).map(|(_, failure)| failure) {
            Some(Failure::Busy) => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
                return Err(Status::with_error_details(
                    tonic::Code::Unavailable,
                    "the queue is full",
                    details,
                ));
            }
            Some(Failure::Internal) => return Err(Status::internal("a defect")),
            Some(Failure::OtherFingerprint) => fingerprint = "cd".repeat(32),
            None => {}
        }
        self.encoded.lock().unwrap().extend(request.texts.iter().cloned());
        let embedding = |text: &String| Embedding { values: vector(text), token_count: 3, truncated: false };
        let embeddings = request.texts.iter().map(embedding).collect();
        Ok(Response::new(EncodeResponse { embeddings, fingerprint }))
    }

    type EncodeStreamStream = BoxStream<'static, Result<EncodeStreamResponse, Status>>;

    async fn encode_stream(
        &self,
        _: Request<Streaming<EncodeStreamRequest>>,
    ) -> Result<Response<Self::EncodeStreamStream>, Status> {
        Err(Status::unimplemented("the trainer makes unary calls"))
    }
}
