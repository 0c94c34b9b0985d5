//! Logs, on standard error so that standard output belongs to results.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

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
    /// A filter such as `info` or `encoder_svc=debug,info`; the environment's `RUST_LOG` goes before it.
    pub filter: String,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        // The runtime library's own notes on graph optimisation are of interest to nobody who serves.
        Self { format: LogFormat::Text, filter: "info,ort=warn".to_owned() }
    }
}

/// Starts logging; a second call changes nothing, so that tests may call it too.
pub fn init_telemetry(settings: &TelemetrySettings) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&settings.filter));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error says that a subscriber is set already.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
