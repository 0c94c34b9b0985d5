//! The backend of `classify`: a running service, or this process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use classifier_svc::config::{
    ClassifierSvcConfig, ClassifierSvcSettings, ENVIRONMENT_PREFIX, METRICS_PREFIX, TRACED_CRATES,
};
use classifier_svc::grpc::ClassifierServer;
use classifier_svc::{Classifier, ModelStore};
use encoder_client::EncoderClient;
use proto::classifier::v1::classifier_service_client::ClassifierServiceClient;
use proto::classifier::v1::classifier_service_server::ClassifierService as _;
use proto::classifier::v1::{ClassifyRequest, ClassifyResponse};
use proto::encoder::v1::encoder_service_server;
use service_kit::{
    ClientTlsArgs, Metrics, Overrides, SERVICES, Target, TelemetrySettings, TraceSettings, init_telemetry,
    load_settings,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::embedded;

/// A variable rather than a flag, because every user of a machine can read the arguments of its
/// processes.
const API_KEY_VARIABLE: &str = "MOVIECLASSIFIER_API_KEY";

/// Limit for one movie, also of the time for which it is asked again.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(super) struct BackendArgs {
    /// Address of the running service. The variable MOVIECLASSIFIER_API_KEY holds the API key, if
    /// it requires one.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052", conflicts_with = "embedded")]
    address: String,
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// Load encoder and model into this process instead of calling a service.
    #[arg(long)]
    embedded: bool,
    /// Model file, with --embedded [default: models/default.safetensors].
    #[arg(long, value_name = "FILE", requires = "embedded")]
    model: Option<PathBuf>,
    /// Encoder bundle, with --embedded [default: .runtime/bundles/minilm-512].
    #[arg(long, value_name = "FOLDER", requires = "embedded")]
    bundle: Option<String>,
}

pub(super) enum Backend {
    Remote(Box<Remote>),
    /// The handlers of the service, called directly.
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

    /// Classifies one movie. Asks again as long as the service says when to.
    pub(super) async fn classify(&self, request: ClassifyRequest) -> Result<ClassifyResponse, Status> {
        let begin = Instant::now();
        loop {
            let status = match self.ask(request.clone()).await {
                Ok(response) => return Ok(response),
                Err(status) => status,
            };
            match status.get_details_retry_info().and_then(|info| info.retry_delay) {
                Some(pause) if begin.elapsed() + pause < TIMEOUT => tokio::time::sleep(pause).await,
                _ => return Err(status),
            }
        }
    }

    async fn ask(&self, request: ClassifyRequest) -> Result<ClassifyResponse, Status> {
        let mut request = Request::new(request);
        request.set_timeout(TIMEOUT);
        let response = match self {
            Self::Embedded(server) => server.classify(request).await?,
            Self::Remote(remote) => {
                if let Some(value) = &remote.authorization {
                    request.metadata_mut().insert("authorization", value.clone());
                }
                remote.client.clone().classify(request).await?
            }
        };
        Ok(response.into_inner())
    }

    /// Turns a failure into a message that says what to do.
    pub(super) fn explain(&self, status: &Status) -> anyhow::Error {
        let unreachable = status.code() == Code::Unavailable && std::error::Error::source(status).is_some();
        match self {
            Self::Remote(remote) if unreachable => anyhow::anyhow!(
                "no classifier answers at {}; start one with `make up`, or use --embedded ({})",
                remote.address,
                status.message()
            ),
            Self::Remote(_) if status.code() == Code::Unauthenticated => {
                anyhow::anyhow!("{}; set it in the variable {API_KEY_VARIABLE}", status.message())
            }
            Self::Remote(remote) if status.code() == Code::Unimplemented => {
                anyhow::anyhow!("{}: {}", remote.address, not_a_classifier(status))
            }
            Self::Remote(_) => anyhow::anyhow!("{:?}: {}", status.code(), status.message()),
            Self::Embedded(_) => anyhow::anyhow!("{}", status.message()),
        }
    }
}

fn not_a_classifier(status: &Status) -> String {
    let services = status.get_details_error_info().and_then(|mut info| info.metadata.remove(SERVICES));
    if services
        .is_some_and(|services| services.split(',').any(|name| name == encoder_service_server::SERVICE_NAME))
    {
        return "that is an encoder, not a classifier".to_owned();
    }
    format!("that is not a classifier: {}", status.message())
}

async fn embedded(args: &BackendArgs) -> anyhow::Result<ClassifierServer> {
    // Warnings only, because the output is for a person; RUST_LOG shows more.
    let log = TelemetrySettings { filter: "warn".to_owned(), ..TelemetrySettings::default() };
    init_telemetry("classifier-svc", &TRACED_CRATES, &log, &TraceSettings::default())?;
    let model_flag = args.model.as_ref().map(|path| path.to_string_lossy().into_owned());
    let settings: ClassifierSvcSettings =
        load_settings(ENVIRONMENT_PREFIX, None, Overrides::default().with("model", model_flag))?;
    let config = ClassifierSvcConfig::try_from(settings)?;
    let metrics = Metrics::with_prefix(METRICS_PREFIX);
    let models = ModelStore::load(config.model.clone(), &metrics)?;
    let channel = embedded::encoder(args.bundle.clone(), metrics.clone()).await?;
    let encoders = EncoderClient::fixed(channel, &config.encoder, &metrics);
    let model = models.current();
    let probe = encoders.probe(&model.provenance().encoder, model.mlp().dimension()).await;
    probe.with_context(|| format!("model file {}", config.model.display()))?;
    Ok(ClassifierServer::new(Classifier::new(models, encoders, config.limits)))
}
