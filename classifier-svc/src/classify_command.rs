//! `classifier-svc classify`: one film on the command line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use classifier_svc::settings::{ClassifierSvcConfig, ClassifierSvcSettings, ENVIRONMENT_PREFIX};
use classifier_svc::{Classifier, EncoderClient, output, service::ClassifierServer};
use genre_model::GenreModel;
use proto::classifier::v1::classifier_service_client::ClassifierServiceClient;
use proto::classifier::v1::classifier_service_server::ClassifierService as _;
use proto::classifier::v1::{ClassifyRequest, ClassifyResponse};
use service_kit::{Overrides, TelemetrySettings, init_telemetry, load_settings};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

/// What a person waits for at most.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct ClassifyArgs {
    /// The film's title; may be left out.
    #[arg(long, default_value = "")]
    title: String,
    /// What the film is about.
    #[arg(long)]
    overview: String,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// All genres in the table, the predicted ones marked with *.
    #[arg(long, conflicts_with = "json")]
    all: bool,
    /// The running service.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052", conflicts_with = "embedded")]
    address: String,
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

pub(crate) async fn classify(args: ClassifyArgs) -> anyhow::Result<()> {
    let mut request = Request::new(ClassifyRequest {
        title: args.title.clone(),
        overview: args.overview.clone(),
        include_scores: true,
    });
    request.set_timeout(TIMEOUT);
    let answer = if args.embedded {
        embedded(&args, request).await?
    } else {
        let endpoint = Endpoint::from_shared(args.address.clone()).with_context(|| {
            format!("--address: expected a URL such as http://127.0.0.1:50052, found {:?}", args.address)
        })?;
        let mut client = ClassifierServiceClient::new(endpoint.connect_timeout(TIMEOUT).connect_lazy());
        client.classify(request).await.map_err(|status| explain(&status, &args.address))?.into_inner()
    };
    if args.json {
        println!("{}", output::json(&args.title, &answer));
    } else {
        println!("{}", output::table(&args.title, &answer, args.all));
    }
    Ok(())
}

/// The service's own handlers, called without a service.
async fn embedded(
    args: &ClassifyArgs,
    request: Request<ClassifyRequest>,
) -> anyhow::Result<ClassifyResponse> {
    // Only what a person should know; RUST_LOG shows more.
    init_telemetry(&TelemetrySettings { filter: "warn".to_owned(), ..TelemetrySettings::default() });
    let model_flag = args.model.as_ref().map(|path| path.to_string_lossy().into_owned());
    let settings: ClassifierSvcSettings =
        load_settings(ENVIRONMENT_PREFIX, None, Overrides::default().with("model", model_flag))?;
    let config = ClassifierSvcConfig::try_from(settings)?;
    let model = GenreModel::load(&config.model)?;
    let channel = crate::embedded_encoder(args.bundle.clone()).await?;
    let encoder = EncoderClient::new(channel, model.provenance().encoder.clone(), config.encoder.timeout);
    encoder.check(TIMEOUT).await.with_context(|| format!("model file {}", config.model.display()))?;
    let classifier = Arc::new(Classifier::new(Arc::new(model), encoder));
    let server = ClassifierServer::new(classifier, config.limits);
    let answer = server.classify(request).await.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
    Ok(answer.into_inner())
}

fn explain(status: &Status, address: &str) -> anyhow::Error {
    let unreachable = status.code() == Code::Unavailable && std::error::Error::source(status).is_some();
    if unreachable {
        anyhow::anyhow!(
            "no classifier answers at {address}; `make up` starts one, --embedded needs none ({})",
            status.message()
        )
    } else {
        anyhow::anyhow!("{:?}: {}", status.code(), status.message())
    }
}
