//! `classifier-svc serve`: reads the settings, binds the listeners and runs the service.

use std::path::PathBuf;

use clap::Args;
use classifier_svc::config::{ENVIRONMENT_PREFIX, METRICS_PREFIX, TRACED_CRATES};
use classifier_svc::{ClassifierSvcConfig, ClassifierSvcSettings};
use service_kit::{
    Listeners, Metrics, Overrides, init_telemetry, load_settings, print, print_settings, shutdown_on_signals,
};

use super::embedded;

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the gRPC listener [default: 127.0.0.1:50052].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address of the HTTP listener for REST and the web page; "" turns it off [default:
    /// 127.0.0.1:8081].
    #[arg(long, value_name = "ADDRESS:PORT")]
    rest_listen: Option<String>,
    /// Model file; reloaded when it changes [default: models/default.safetensors].
    #[arg(long, value_name = "FILE")]
    model: Option<String>,
    /// Address of the encoder, or several separated by commas; every IP address of a host name is a
    /// replica [default: http://127.0.0.1:50051].
    #[arg(long, value_name = "URL", conflicts_with = "embedded")]
    encoder: Option<String>,
    /// Run an encoder inside this process instead of calling one; ENCODER_SVC_… variables set it
    /// up.
    #[arg(long)]
    embedded: bool,
    /// Print the effective settings as a settings file, without secrets, and exit.
    #[arg(long)]
    print_config: bool,
    /// Log format: text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

pub(super) async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let flags = Overrides::default()
        .with("listen", args.listen)
        .with("rest.listen", args.rest_listen)
        .with("model", args.model)
        .with("encoder.url", args.encoder)
        .with("log.format", args.log_format);
    let file = args.config.clone();
    let read =
        move || load_settings::<ClassifierSvcSettings>(ENVIRONMENT_PREFIX, file.as_deref(), flags.clone());
    let settings = read()?;
    let printed = print_settings(&settings);
    let config = ClassifierSvcConfig::try_from(settings)?;
    if args.print_config {
        return Ok(print(printed.trim_end())?);
    }
    let telemetry = init_telemetry("classifier-svc", &TRACED_CRATES, &config.log, &config.trace)?;
    let shutdown = shutdown_on_signals()?;
    if let Some(file) = args.config {
        let filter = move || read().map(|settings| settings.log.filter);
        tokio::spawn(telemetry.clone().follow_filter(file, filter, shutdown.clone()));
    }
    let http = config.rest.as_ref().map(|rest| rest.listen);
    let listeners = Listeners::bind(config.listen, http)?;
    let metrics = Metrics::with_prefix(METRICS_PREFIX);
    let embedded = if args.embedded { Some(embedded::encoder(None, metrics.clone()).await?) } else { None };
    classifier_svc::run(config, embedded, metrics, listeners, shutdown).await?;
    Ok(())
}
