//! Logs on standard error, and traces exported by OTLP if a collector is configured. Standard
//! output is reserved for results.

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

use crate::telemetry::{log_filter, trace_context};
use crate::{FileWatch, InvalidSetting, Shutdown, redact_urls, serialize_redacted, word};

/// OpenTelemetry's standard variable for the address of the collector.
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// How often the settings file is checked if the system reports no event.
const FILTER_POLL: Duration = Duration::from_secs(5);

/// The format of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// Settings of logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// `text` or `json`, in any case.
    #[serde(deserialize_with = "word")]
    pub format: LogFormat,
    /// A filter such as `info` or `service_kit=debug,info`. The environment variable `RUST_LOG`
    /// overrides it. A change in the settings file takes effect at once.
    pub filter: String,
}

/// Settings of traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// The gRPC address of an OTLP collector, such as `http://collector:4317`. If empty,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` is used; if that is unset too, no traces are exported.
    #[serde(serialize_with = "serialize_redacted")]
    pub endpoint: String,
    /// The fraction of the traces started here that is exported, 0 to 1. For a trace that the
    /// caller started, the caller decides.
    pub sample_ratio: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        // ONNX Runtime logs graph optimisation at `info`, which does not help an operator.
        // h2 warns of each wrong frame, so a client without a key could fill the disk with log lines.
        Self { format: LogFormat::Text, filter: "info,ort=warn,h2=error".to_owned() }
    }
}

impl Default for TraceSettings {
    fn default() -> Self {
        // Tracing every call costs noticeable throughput (docs/experiments.md).
        Self { endpoint: String::new(), sample_ratio: 0.1 }
    }
}

impl TelemetrySettings {
    /// Checks the filter. Returns the settings.
    pub fn checked(self) -> Result<Self, InvalidSetting> {
        log_filter::parse(&self.filter).map_err(|reason| InvalidSetting {
            key: "log.filter",
            expected: log_filter::EXAMPLE.to_owned(),
            found: format!("{:?} ({reason})", self.filter),
        })?;
        Ok(self)
    }
}

impl TraceSettings {
    /// Checks the address and the ratio. Returns the settings.
    pub fn checked(self) -> Result<Self, InvalidSetting> {
        if !self.endpoint.is_empty() && !is_http(&self.endpoint) {
            let expected = "an address such as http://collector:4317".to_owned();
            let found = format!("{:?}", redact_urls(&self.endpoint));
            return Err(InvalidSetting { key: "trace.endpoint", expected, found });
        }
        if (0.0..=1.0).contains(&self.sample_ratio) {
            return Ok(self);
        }
        let found = self.sample_ratio.to_string();
        Err(InvalidSetting { key: "trace.sample_ratio", expected: "a number from 0 to 1".to_owned(), found })
    }
}

fn is_http(address: &str) -> bool {
    let parsed = address.parse::<http::Uri>();
    parsed.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// Logs cannot be filtered, or traces are configured but cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The variable `RUST_LOG` is no filter.
    #[error("environment variable RUST_LOG: expected {}, found {found:?}: {reason}", log_filter::EXAMPLE)]
    Filter {
        /// The value of the variable.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The exporter cannot be built.
    #[error("traces to {endpoint}: {source}")]
    Exporter {
        /// The collector's address.
        endpoint: String,
        /// The exporter's error.
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// The logs and traces of this process. Dropping the last clone exports the remaining traces.
#[derive(Clone, Default)]
pub struct Telemetry {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    _traces: Option<Arc<Traces>>,
}

struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(Duration::from_secs(2)) {
            tracing::warn!(%error, "failed to export the remaining traces");
        }
    }
}

/// Starts logs, and traces for `service` if a collector is configured. Exports the spans of
/// `crates` and of this crate.
///
/// Must be called within a tokio runtime. A second call in a process changes nothing, so that tests
/// may call it too.
pub fn init_telemetry(
    service: &'static str,
    crates: &[&str],
    log: &TelemetrySettings,
    trace: &TraceSettings,
) -> Result<Telemetry, TelemetryError> {
    let filter = match filter_variable() {
        Some(found) => {
            log_filter::parse(&found).map_err(|reason| TelemetryError::Filter { found, reason })?
        }
        // The settings are checked.
        None => EnvFilter::new(&log.filter),
    };
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
        // Omit source location and thread from each span, to keep spans small.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours.collect::<Targets>())
    });
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init();
    // Fails only if the process has a subscriber already.
    if started.is_err() {
        return Ok(Telemetry::default());
    }
    if provider.is_some() {
        trace_context::switch_on();
    }
    Ok(Telemetry { filter: Some(handle), _traces: provider.map(|provider| Arc::new(Traces(provider))) })
}

/// Returns the variable that overrides the filter of the settings; empty is unset.
fn filter_variable() -> Option<String> {
    let value = std::env::var_os(EnvFilter::DEFAULT_ENV).filter(|value| !value.is_empty())?;
    Some(value.to_string_lossy().into_owned())
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
    let exporter =
        exporter.map_err(|source| TelemetryError::Exporter { endpoint: redact_urls(&endpoint), source })?;
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
    /// Applies the filter that `read` returns whenever the settings file changes, until shutdown.
    /// Returns at once if `RUST_LOG` is set, which overrides the settings.
    pub async fn follow_filter<E: std::fmt::Display>(
        self,
        file: PathBuf,
        read: impl Fn() -> Result<String, E>,
        shutdown: Shutdown,
    ) {
        let Some(handle) = self.filter.filter(|_| filter_variable().is_none()) else {
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
                    tracing::warn!(%error, "failed to read the changed settings file");
                    continue;
                }
            };
            match log_filter::parse(&filter) {
                Ok(parsed) => {
                    // Fails only if the subscriber is gone.
                    let _ = handle.reload(parsed);
                    tracing::warn!(filter, "log filter changed");
                    current = filter;
                }
                Err(error) => {
                    tracing::warn!(filter, %error, "invalid log filter; expected one such as `info`");
                }
            }
        }
    }
}
