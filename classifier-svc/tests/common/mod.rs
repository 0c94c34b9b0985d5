//! Real services on the tiny fixture bundles, inside the test process.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use classifier_svc::config::METRICS_PREFIX;
use classifier_svc::{ClassifierSvcConfig, ClassifierSvcSettings};
use encoder_svc::{EncoderSvcConfig, EncoderSvcSettings};
use genre_model::{
    Activation, Dense, EncoderIdentity, Fingerprint, GENRES, GenreModel, InputTemplate, Mlp, Provenance,
    Thresholds,
};
use ndarray::{Array1, Array2};
use proto::classifier::v1::classifier_service_client::ClassifierServiceClient;
use service_kit::{Listeners, Shutdown};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

pub fn bundle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../encoder-svc/tests/fixtures").join(name)
}

/// ONNX Runtime, which `make models` downloads; `make test` runs that first.
pub fn runtime_library() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.runtime/lib/libonnxruntime.so");
    assert!(path.is_file(), "{} is missing: run `make models` first", path.display());
    path
}

pub fn encoder_settings(bundle_name: &str, address: SocketAddr) -> EncoderSvcSettings {
    let mut settings = EncoderSvcSettings {
        listen: address.to_string(),
        drain_seconds: 1.0,
        ..EncoderSvcSettings::default()
    };
    settings.encoder.bundle = bundle(bundle_name);
    settings.encoder.runtime_library = Some(runtime_library());
    settings.encoder.sessions = 1;
    settings
}

/// A running service, stopped with the runtime of the test.
pub struct Running {
    pub address: SocketAddr,
    /// Address of the HTTP listener, if any.
    pub rest: Option<SocketAddr>,
    pub shutdown: Shutdown,
    pub task: JoinHandle<()>,
}

impl Running {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of `path` on the HTTP listener.
    pub fn rest_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.rest.unwrap())
    }

    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url()).unwrap().connect_lazy()
    }

    pub fn client(&self) -> ClassifierServiceClient<Channel> {
        ClassifierServiceClient::new(self.channel())
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub async fn start_encoder(bundle_name: &str, address: SocketAddr) -> Running {
    start_encoder_with(encoder_settings(bundle_name, address)).await
}

pub async fn start_encoder_with(settings: EncoderSvcSettings) -> Running {
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let token = shutdown.clone();
    let listeners = Listeners { grpc: listener, http: None };
    let task = tokio::spawn(async move { encoder_svc::run(config, listeners, token).await.unwrap() });
    Running { address, rest: None, shutdown, task }
}

pub fn classifier_settings(model: &Path, encoder: &str) -> ClassifierSvcSettings {
    let mut settings = ClassifierSvcSettings {
        listen: any_port().to_string(),
        model: model.to_owned(),
        ..ClassifierSvcSettings::default()
    };
    settings.rest.listen = any_port().to_string();
    encoder.clone_into(&mut settings.encoder.url);
    settings
}

pub fn start_classifier(model: &Path, encoder: &str) -> Running {
    start_classifier_with(classifier_settings(model, encoder))
}

pub fn start_classifier_with(settings: ClassifierSvcSettings) -> Running {
    let config = ClassifierSvcConfig::try_from(settings).unwrap();
    let http = config.rest.as_ref().map(|rest| rest.listen);
    let listeners = Listeners::bind(config.listen, http).unwrap();
    let address = listeners.grpc.local_addr().unwrap();
    let rest = listeners.http.as_ref().map(|listener| listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    let token = shutdown.clone();
    let task = tokio::spawn(async move {
        classifier_svc::run(
            config,
            None,
            service_kit::Metrics::with_prefix(METRICS_PREFIX),
            listeners,
            token,
        )
        .await
        .unwrap();
    });
    Running { address, rest, shutdown, task }
}

/// A model with fixed weights for the encoder of that bundle.
pub fn model_for(bundle_name: &str) -> GenreModel {
    let manifest = std::fs::read(bundle(bundle_name).join("encoder.json")).unwrap();
    let hidden = Dense {
        weight: Array2::from_shape_fn((8, 512), |(i, j)| ((i * 31 + j * 17) % 13) as f32 / 6.0 - 1.0),
        bias: Array1::zeros(8),
    };
    let output = Dense {
        weight: Array2::from_shape_fn((20, 8), |(i, j)| ((i * 7 + j * 5) % 11) as f32 / 5.0 - 1.0),
        bias: Array1::zeros(20),
    };
    GenreModel::new(
        GENRES.iter().map(|genre| genre.name.to_owned()).collect(),
        Mlp::new(hidden, Activation::Relu, output).unwrap(),
        Thresholds::uniform("fixed", 0.5, 20).unwrap(),
        Provenance {
            encoder: EncoderIdentity {
                id: bundle_name.to_owned(),
                version: "1".to_owned(),
                fingerprint: Fingerprint::parse(hex::encode(Sha256::digest(manifest))).unwrap(),
            },
            input_template: InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap(),
            data_digest: String::new(),
            split_rule: genre_model::SPLIT_RULE.to_owned(),
            hyper_parameters: [].into(),
            metrics: [].into(),
        },
    )
    .unwrap()
}

/// The model as a file, deleted with the returned folder.
pub fn model_file(bundle_name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model_for(bundle_name).save(&path).unwrap();
    (folder, path)
}

/// Returns the body of a plain GET, whatever its status.
pub async fn http_get(address: SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).await.unwrap();
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}
