//! A real service with the tiny fixture bundle, in the process of the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use encoder_svc::scheduler::entry::{Class, Reply};
use encoder_svc::{Encoder, EncoderSvcConfig, EncoderSvcSettings};
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use service_kit::{ApiError, CallerId, Deadline, Listeners, Metrics, Shutdown};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The library that `make models` installs. `make test` runs that first.
pub fn runtime_library() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.runtime/lib/libonnxruntime.so");
    assert!(path.is_file(), "{} is missing: run `make models` first", path.display());
    path
}

pub fn settings() -> EncoderSvcSettings {
    let mut settings =
        EncoderSvcSettings { listen: "127.0.0.1:0".to_owned(), ..EncoderSvcSettings::default() };
    settings.encoder.bundle = fixture("tiny-512");
    settings.encoder.runtime_library = Some(runtime_library());
    settings.encoder.sessions = 2;
    // Tests encode the same text repeatedly and expect a run each time.
    settings.encoder.cache_mib = 0;
    settings
}

/// A service on a free port. It ends with the test's runtime.
pub struct Running {
    pub address: SocketAddr,
    pub channel: Channel,
    pub shutdown: Shutdown,
    pub task: JoinHandle<()>,
}

impl Running {
    pub fn client(&self) -> EncoderServiceClient<Channel> {
        EncoderServiceClient::new(self.channel.clone())
    }
}

pub async fn start(settings: EncoderSvcSettings) -> Running {
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let task = tokio::spawn({
        let shutdown = shutdown.clone();
        let listeners = Listeners { grpc: listener, http: None };
        async move { encoder_svc::run(config, listeners, shutdown).await.unwrap() }
    });
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Running { address, channel, shutdown, task }
}

/// The value of a metric of the encoder, such as `run_texts_sum`.
pub fn count(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.render();
    let name = format!("encoder_{name} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse::<f64>().unwrap() as u64
}

/// Texts of 2 to 300 words, not sorted by length.
pub fn texts(count: usize) -> Vec<String> {
    let words = |index: usize| 2 + index * index * 7 % 300;
    (0..count).map(|index| format!("movie {index}: {}", "a storm at sea ".repeat(words(index) / 4))).collect()
}

pub async fn encode(encoder: &Encoder, texts: Vec<String>) -> Result<Vec<Reply>, ApiError> {
    encoder.encode_batch(texts, Class::Bulk, CallerId::UNKNOWN, Deadline::NONE).await
}

/// The largest difference of an element between two sets of vectors of the same texts.
pub fn largest_difference(found: &[Reply], expected: &[Reply]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected).flat_map(|(found, expected)| {
        assert_eq!((found.token_count, found.truncated), (expected.token_count, expected.truncated));
        found.vector.iter().zip(&expected.vector)
    });
    pairs.map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap()
}
