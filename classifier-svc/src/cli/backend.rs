//! Who classifies: a running service, or this process.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use classifier_svc::config::{ClassifierSvcConfig, ClassifierSvcSettings, ENVIRONMENT_PREFIX};
use classifier_svc::encoder_pool::PoolHealth;
use classifier_svc::grpc::ClassifierServer;
use classifier_svc::{Classifier, EncoderPool, ModelStore};
use proto::classifier::v1::classifier_service_client::ClassifierServiceClient;
use proto::classifier::v1::classifier_service_server::ClassifierService as _;
use proto::classifier::v1::{ClassifyRequest, ClassifyResponse};
use service_kit::{
    ClientTlsArgs, Metrics, Overrides, Target, TelemetrySettings, TraceSettings, init_telemetry,
    load_settings,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::embedded;

/// Kept out of the settings, and of the list of processes.
const API_KEY_VARIABLE: &str = "MOVIECLASSIFIER_API_KEY";

/// What a person waits for at most.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(super) struct BackendArgs {
    /// The running service; MOVIECLASSIFIER_API_KEY is the key to call it with, if it asks for one.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052", conflicts_with = "embedded")]
    address: String,
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// No service at all: load the encoder and the model into this process.
    #[arg(long)]
    embedded: bool,
    /// With --embedded, the model file [default: models/default.safetensors].
    #[arg(long, value_name = "FILE", requires = "embedded")]
    model: Option<PathBuf>,
    /// With --embedded, the encoder bundle [default: .runtime/bundles/minilm-512].
    #[arg(long, value_name = "FOLDER", requires = "embedded")]
    bundle: Option<String>,
}

pub(super) enum Backend {
    Remote(Box<Remote>),
    /// The service's own handlers, called without a service.
    Embedded(ClassifierServer),
}

pub(super) struct Remote {
    client: ClassifierServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    address: String,
}

impl Backend {
    pub(super) async fn open(args: &BackendArgs) -> anyhow::Result<Self> {
        if args.embedded {
            return Ok(Self::Embedded(embedded(args).await?));
        }
        let target = Target::parse(&args.address).context("--address")?;
        let channel = target.channel(None, args.tls.for_target(&target)?);
        let authorization = match std::env::var(API_KEY_VARIABLE) {
            Ok(key) => Some(
                MetadataValue::try_from(format!("Bearer {key}"))
                    .map_err(|_| anyhow::anyhow!("{API_KEY_VARIABLE}: expected printable ASCII"))?,
            ),
            Err(_) => None,
        };
        let client = ClassifierServiceClient::new(channel);
        Ok(Self::Remote(Box::new(Remote { client, authorization, address: args.address.clone() })))
    }

    pub(super) async fn classify(&self, request: ClassifyRequest) -> Result<ClassifyResponse, Status> {
        let mut request = Request::new(request);
        request.set_timeout(TIMEOUT);
        let answer = match self {
            Self::Embedded(server) => server.classify(request).await?,
            Self::Remote(remote) => {
                if let Some(value) = &remote.authorization {
                    request.metadata_mut().insert("authorization", value.clone());
                }
                remote.client.clone().classify(request).await?
            }
        };
        Ok(answer.into_inner())
    }

    /// A failure in words that say what to do.
    pub(super) fn explain(&self, status: &Status) -> anyhow::Error {
        let unreachable = status.code() == Code::Unavailable && std::error::Error::source(status).is_some();
        match self {
            Self::Remote(remote) if unreachable => anyhow::anyhow!(
                "no classifier answers at {}; `make up` starts one, --embedded needs none ({})",
                remote.address,
                status.message()
            ),
            Self::Remote(_) if status.code() == Code::Unauthenticated => {
                anyhow::anyhow!("{}; {API_KEY_VARIABLE} names it", status.message())
            }
            Self::Remote(_) => anyhow::anyhow!("{:?}: {}", status.code(), status.message()),
            Self::Embedded(_) => anyhow::anyhow!("{}", status.message()),
        }
    }
}

async fn embedded(args: &BackendArgs) -> anyhow::Result<ClassifierServer> {
    // Only what a person should know; RUST_LOG shows more.
    let log = TelemetrySettings { filter: "warn".to_owned(), ..TelemetrySettings::default() };
    init_telemetry("classifier-svc", &log, &TraceSettings::default())?;
    let model_flag = args.model.as_ref().map(|path| path.to_string_lossy().into_owned());
    let settings: ClassifierSvcSettings =
        load_settings(ENVIRONMENT_PREFIX, None, Overrides::default().with("model", model_flag))?;
    let config = ClassifierSvcConfig::try_from(settings)?;
    let metrics = Metrics::default();
    let models = ModelStore::load(config.model.clone(), &metrics)?;
    let channel = embedded::encoder(args.bundle.clone(), metrics.clone()).await?;
    let encoders = EncoderPool::fixed(channel, config.encoder, &metrics);
    if let PoolHealth::Wrong(error) | PoolHealth::Unreachable(error) =
        encoders.probe(&models.current().provenance().encoder).await
    {
        return Err(error).with_context(|| format!("model file {}", config.model.display()));
    }
    Ok(ClassifierServer::new(Classifier::new(models, encoders, config.limits)))
}
