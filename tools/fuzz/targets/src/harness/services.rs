//! Both services in this process, whole but for their sockets: what is fuzzed is what is served.
//!
//! The encoder runs a bundle of random weights on ONNX Runtime, which `make models` fetches. Limits are small, so that
//! short inputs reach them.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use classifier_svc::{Classifier, ClassifierSvcConfig, ClassifierSvcSettings, EncoderPool, ModelStore, rest};
use encoder_svc::EncoderSvcSettings;
use service_kit::{ApiKeySettings, ApiKeys, AuthSettings, Drain, GrpcServer, Metrics, Shutdown};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use super::rules::{MAX_BATCH, MAX_OVERVIEW_CHARS, MAX_TEXT_BYTES, MAX_TEXTS, MAX_TITLE_CHARS};
use super::{grpc, models};
use crate::harness::inputs::{file, repository};

/// Tokens that the bundle reads.
pub(crate) const MAX_TOKENS: u32 = 64;
/// Floats in a vector.
pub(crate) const DIMENSION: usize = 512;
/// The one key that [`Services::guarded`] takes.
pub(crate) const KEY: &str = "sesame";
/// Far more than any call takes; who is not answered by then is never answered.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Services {
    runtime: Runtime,
    pub(crate) encoder: Channel,
    pub(crate) classifier: Channel,
    /// The classifier again, for those who have [`KEY`].
    pub(crate) guarded: Channel,
    router: Router,
}

pub(crate) static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    let library = repository(".runtime/lib/libonnxruntime.so");
    assert!(library.is_file(), "{} is missing: run `make models` first", library.display());
    let mut encoder = EncoderSvcSettings::default();
    encoder.encoder.bundle = repository("encoder-svc/tests/fixtures/tiny-512");
    encoder.encoder.runtime_library = Some(library);
    encoder.encoder.sessions = 1;
    encoder.encoder.all_core_threads = 1;
    encoder.limits.max_batch_size = MAX_TEXTS;
    encoder.limits.max_text_bytes = MAX_TEXT_BYTES;
    encoder.limits.stream_in_flight = 2;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let encoder =
        runtime.block_on(encoder_svc::embedded::channel(encoder, Metrics::default(), Shutdown::new()));
    let encoder = encoder.expect("the fixture is a sound bundle");

    let inside = runtime.enter();
    let model = models::model_for("encoder-svc/tests/fixtures/tiny-512", DIMENSION);
    let mut settings = ClassifierSvcSettings {
        model: file("served.safetensors", &model.to_bytes()),
        ..ClassifierSvcSettings::default()
    };
    settings.encoder.hedge_seconds = 0.0;
    settings.limits.max_batch_size = MAX_BATCH;
    settings.limits.max_title_chars = MAX_TITLE_CHARS;
    settings.limits.max_overview_chars = MAX_OVERVIEW_CHARS;
    settings.limits.stream_in_flight = 2;
    let config = ClassifierSvcConfig::try_from(settings).expect("these settings are sound");
    let metrics = Metrics::default();
    let models = ModelStore::load(config.model.clone(), &metrics).expect("the file was just written");
    let pool = EncoderPool::fixed(encoder.clone(), config.encoder.clone(), &metrics);
    let checked = Classifier::new(models, pool, config.limits);
    let keys = AuthSettings {
        keys: vec![ApiKeySettings {
            name: "fuzz".to_owned(),
            sha256: hex::encode(Sha256::digest(KEY)),
            requests_per_second: 0,
            burst: 0,
        }],
    };
    let keys = ApiKeys::new(&keys).expect("the hash is one");
    let classifier = serve(&checked, None);
    let guarded = serve(&checked, keys);
    let rest_config = config.rest.expect("there is a REST listener by default");
    let router = rest::routes(checked, &rest_config, None);
    drop(inside);
    Services { runtime, encoder, classifier, guarded, router }
});

/// The classifier's whole gRPC server over in-memory connections.
fn serve(classifier: &Classifier, keys: Option<ApiKeys>) -> Channel {
    let service = classifier_svc::grpc::ClassifierServer::new(classifier.clone()).into_grpc();
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, Drain::default(), Metrics::default());
    let server = server.expect("the descriptors are ours").with_keys(keys).with_service(service);
    server.in_memory(Shutdown::new())
}

impl Services {
    /// Sends the bytes to a gRPC method as they are.
    pub(crate) fn call(
        &self,
        channel: &Channel,
        path: &str,
        headers: &[(http::HeaderName, http::HeaderValue)],
        body: Vec<u8>,
    ) -> grpc::Reply {
        let reply = grpc::call(channel.clone(), path, headers, body);
        let answered = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, reply).await });
        answered.expect("every call is answered")
    }

    /// Posts the bytes over HTTP: status, content type and body.
    pub(crate) fn post(&self, path: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
        let answer = async {
            let request = http::Request::post(path)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(AxumBody::from(body))
                .expect("the path is one of ours");
            let response = self.router.clone().oneshot(request).await.expect("a router does not fail");
            let (parts, body) = response.into_parts();
            let kind = parts.headers.get(http::header::CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("the body is in memory");
            (parts.status.as_u16(), kind, body.to_vec())
        };
        let answered = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        answered.expect("every request is answered")
    }
}
