//! Logs, on standard error so that standard output belongs to results; and traces, sent by OTLP where there is a collector.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use crate::telemetry::trace_context;
use crate::{FileWatch, Shutdown};

/// Where collectors are named for every program of a system (OpenTelemetry's own variable).
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Between looks at the settings file where no event tells of a change.
const FILTER_POLL: Duration = Duration::from_secs(5);

/// What logs look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// A filter such as `info` or `encoder_svc=debug,info`; the environment's `RUST_LOG` goes before it. Changed in the
    /// settings file, it holds at once.
    pub filter: String,
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// An OTLP collector's gRPC address such as `http://collector:4317`; empty for `OTEL_EXPORTER_OTLP_ENDPOINT`, and none
    /// where that is not set.
    pub endpoint: String,
    /// Which part of the traces that begin here is sent, 0 to 1; of those that began elsewhere, the caller decides.
    pub sample_ratio: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        // The runtime library's own notes on graph optimisation are of interest to nobody who serves.
        Self { format: LogFormat::Text, filter: "info,ort=warn".to_owned() }
    }
}

impl Default for TraceSettings {
    fn default() -> Self {
        // A trace of every text costs a tenth of the throughput; of every tenth, about a hundredth.
        Self { endpoint: String::new(), sample_ratio: 0.1 }
    }
}

/// Traces were asked for, and cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter cannot be made.
    #[error("traces to {endpoint}: {source}")]
    Exporter {
        /// Where to.
        endpoint: String,
        /// Why not.
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// Logs and traces of this process; traces that are not sent yet are, when the last clone is dropped.
#[derive(Clone, Default)]
pub struct Telemetry {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    traces: Option<Arc<Traces>>,
}

struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(Duration::from_secs(2)) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Starts logs, and traces of `service` where there is a collector: those of the spans in `crates` and in this one; within a tokio runtime. A second call changes nothing,
/// so that tests may call it too.
pub fn init_telemetry(
    service: &'static str,
    crates: &[&str],
    log: &TelemetrySettings,
    trace: &TraceSettings,
) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&log.filter));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let provider = trace_provider(service, trace)?;
    let spans = provider.as_ref().map(|provider| {
        let ours = crates.iter().chain(&[env!("CARGO_CRATE_NAME")]);
        let ours = ours.map(|target| (*target, LevelFilter::DEBUG));
        // A text has four spans: where in the code and on which thread they began is left out of them.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours.collect::<Targets>())
    });
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init();
    // An error says that a subscriber is set already.
    if started.is_err() {
        return Ok(Telemetry::default());
    }
    if provider.is_some() {
        trace_context::switch_on();
    }
    Ok(Telemetry { filter: Some(handle), traces: provider.map(|provider| Arc::new(Traces(provider))) })
}

fn trace_provider(
    service: &'static str,
    settings: &TraceSettings,
) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let endpoint = if settings.endpoint.is_empty() {
        std::env::var(ENDPOINT_VARIABLE).unwrap_or_default()
    } else {
        settings.endpoint.clone()
    };
    if endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(&endpoint).build();
    let exporter = exporter.map_err(|source| TelemetryError::Exporter { endpoint, source })?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    let resource = Resource::builder().with_service_name(service).build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

impl Telemetry {
    /// Whether traces are sent.
    #[must_use]
    pub fn traces(&self) -> bool {
        self.traces.is_some()
    }

    /// Takes the filter that `read` finds in the settings, whenever their file changes, until shutdown. `RUST_LOG` goes
    /// before it, and then nothing is followed.
    pub async fn follow_filter<E: std::fmt::Display>(
        self,
        file: PathBuf,
        read: impl Fn() -> Result<String, E>,
        shutdown: Shutdown,
    ) {
        let Some(handle) = self.filter.filter(|_| std::env::var_os(EnvFilter::DEFAULT_ENV).is_none()) else {
            return;
        };
        let mut watch = FileWatch::new(vec![file], FILTER_POLL);
        let mut current = read().unwrap_or_default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = watch.changed() => {}
            }
            let filter = match read() {
                Ok(filter) if filter != current => filter,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%error, "the settings file changed and cannot be read");
                    continue;
                }
            };
            match EnvFilter::try_new(&filter) {
                Ok(parsed) => {
                    // An error says that the subscriber is gone.
                    let _ = handle.reload(parsed);
                    tracing::warn!(filter, "the filter of logs is another one now");
                    current = filter;
                }
                Err(error) => tracing::warn!(filter, %error, "expected a filter such as `info`"),
            }
        }
    }
}
