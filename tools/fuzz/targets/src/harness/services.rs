//! Both services in this process, complete except for sockets, so that targets test the code that
//! is deployed.
//!
//! The encoder runs a bundle of random weights on the ONNX Runtime that `make models` fetches.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use classifier_svc::{Classifier, ClassifierSvcConfig, ClassifierSvcSettings, ModelStore, rest};
use encoder_client::EncoderClient;
use encoder_svc::limited_encoder::LimitedEncoder;
use encoder_svc::{EncoderSvcConfig, EncoderSvcSettings, startup};
use service_kit::{ApiKeySettings, ApiKeys, AuthSettings, Drain, GrpcServer, Metrics, Shutdown};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use super::inputs::{file, repository};
use super::rules::{MAX_BATCH, MAX_OVERVIEW_CHARS, MAX_TEXT_BYTES, MAX_TEXTS, MAX_TITLE_CHARS};
use super::{grpc, models};

/// Tokens per text that the bundle reads.
pub(crate) const MAX_TOKENS: u32 = 64;
/// Components of a vector.
pub(crate) const DIMENSION: usize = 512;
/// The only key that [`Services::guarded`] accepts.
pub(crate) const KEY: &str = "sesame";
/// Far longer than any call takes: a call without a reply by then hangs.
const TIMEOUT: Duration = Duration::from_secs(20);
const BUNDLE: &str = "encoder-svc/tests/fixtures/tiny-512";

pub(crate) struct Services {
    runtime: Runtime,
    pub(crate) encoder: Channel,
    pub(crate) classifier: Channel,
    /// The classifier behind authentication with [`KEY`].
    pub(crate) guarded: Channel,
    router: Router,
    encoder_router: Router,
}

pub(crate) static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    let library = repository(".runtime/lib/libonnxruntime.so");
    assert!(library.is_file(), "{} is missing: run `make models` first", library.display());
    let mut encoder = EncoderSvcSettings::default();
    encoder.encoder.bundle = repository(BUNDLE);
    encoder.encoder.runtime_library = Some(library);
    encoder.encoder.sessions = 1;
    encoder.encoder.all_core_threads = 1;
    encoder.limits.max_batch_size = MAX_TEXTS;
    encoder.limits.max_text_bytes = MAX_TEXT_BYTES;
    encoder.limits.stream_in_flight = 2;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let config = EncoderSvcConfig::try_from(encoder).expect("the settings are valid");
    let encoder = runtime.block_on(startup::start(config.encoder.clone(), Metrics::default()));
    let encoder = Arc::new(encoder.expect("the fixture is a valid bundle"));
    let limited = LimitedEncoder::new(encoder, config.limits);
    let memory = service_kit::MemoryBudget::for_messages_of(0);
    let encoder_router = encoder_svc::rest::routes(limited.clone(), config.http_timeout, None, memory);

    let inside = runtime.enter();
    let service = encoder_svc::grpc::EncoderServer::new(limited).into_grpc();
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, Drain::default(), Metrics::default());
    let server = server.expect("the descriptors are valid").with_service(service);
    let encoder = server.in_memory(Shutdown::new());
    let mut settings = ClassifierSvcSettings {
        model: file("served.safetensors", &models::model_for(BUNDLE, DIMENSION).to_bytes()),
        ..ClassifierSvcSettings::default()
    };
    settings.encoder.hedge_seconds = 0.0;
    settings.limits.max_batch_size = MAX_BATCH;
    settings.limits.max_title_chars = MAX_TITLE_CHARS;
    settings.limits.max_overview_chars = MAX_OVERVIEW_CHARS;
    settings.limits.stream_in_flight = 2;
    let config = ClassifierSvcConfig::try_from(settings).expect("the settings are valid");
    let metrics = Metrics::default();
    let models = ModelStore::load(config.model.clone(), &metrics).expect("the model file is valid");
    let pool = EncoderClient::fixed(encoder.clone(), &config.encoder, &metrics);
    let classifier = Classifier::new(models, pool, config.limits);
    let keys = AuthSettings {
        keys: vec![ApiKeySettings {
            name: "fuzz".to_owned(),
            sha256: hex::encode(Sha256::digest(KEY)),
            ..ApiKeySettings::default()
        }],
    };
    let keys = ApiKeys::new(&keys).expect("the key is a SHA-256 hash");
    let channel = serve(&classifier, None);
    let guarded = serve(&classifier, keys);
    let rest_config = config.rest.expect("REST is enabled by default");
    let router = rest::routes(classifier, &rest_config, None, service_kit::MemoryBudget::for_messages_of(0));
    drop(inside);
    Services { runtime, encoder, classifier: channel, guarded, router, encoder_router }
});

/// Serves the classifier's complete gRPC stack over an in-memory connection.
fn serve(classifier: &Classifier, keys: Option<ApiKeys>) -> Channel {
    let service = classifier_svc::grpc::ClassifierServer::new(classifier.clone()).into_grpc();
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, Drain::default(), Metrics::default());
    let server = server.expect("the descriptors are valid").with_keys(keys).with_service(service);
    server.in_memory(Shutdown::new())
}

impl Services {
    /// Calls a gRPC method with `body` as its bytes on the wire.
    pub(crate) fn call(
        &self,
        channel: &Channel,
        path: &str,
        headers: &[(http::HeaderName, http::HeaderValue)],
        body: Vec<u8>,
    ) -> grpc::Reply {
        self.within_timeout(grpc::call(channel.clone(), path, headers, body))
    }

    /// Posts `body` to the classifier over HTTP and returns status, content type and body of the response.
    pub(crate) fn post(&self, path: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
        self.post_to(&self.router, path, body)
    }

    /// As [`post`](Self::post), to the encoder.
    pub(crate) fn post_to_encoder(&self, path: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
        self.post_to(&self.encoder_router, path, body)
    }

    fn post_to(&self, router: &Router, path: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
        self.within_timeout(async {
            let request = http::Request::post(path)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(AxumBody::from(body))
                .expect("the path is valid");
            let response = router
                .clone()
                .oneshot(service_kit::canonical_path(request))
                .await
                .expect("the router does not fail");
            let (parts, body) = response.into_parts();
            let kind = parts.headers.get(http::header::CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("the body is in memory");
            (parts.status.as_u16(), kind, body.to_vec())
        })
    }

    fn within_timeout<T>(&self, reply: impl Future<Output = T>) -> T {
        let reply = self.runtime.block_on(async { tokio::time::timeout(TIMEOUT, reply).await });
        reply.expect("every request gets a reply")
    }
}
