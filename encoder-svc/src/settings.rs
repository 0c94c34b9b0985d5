//! Settings as they are written, and the checked configuration that is made of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::{
    ApiKeys, AuthSettings, HttpSettings, ServerTls, ServerTlsSettings, TelemetrySettings, in_range,
    listen_address, optional_listen_address, seconds,
};

use crate::StartError;

/// Prefix of the environment's variables: `ENCODER_SVC_LISTEN`, `ENCODER_SVC_ENCODER__BUNDLE`.
pub const ENVIRONMENT_PREFIX: &str = "ENCODER_SVC";

/// All settings of encoder-svc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderSvcSettings {
    /// Address of the gRPC listener.
    pub listen: String,
    /// Seconds that calls in flight get at shutdown.
    pub drain_seconds: f64,
    /// `/livez`, `/readyz` and `/metrics`.
    pub http: HttpSettings,
    /// TLS of both listeners.
    pub tls: ServerTlsSettings,
    /// Who may call.
    pub auth: AuthSettings,
    /// What is encoded with.
    pub encoder: EncoderSettings,
    /// What a request may ask for.
    pub limits: LimitSettings,
    /// Logs.
    pub log: TelemetrySettings,
}

/// What is encoded with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderSettings {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// ONNX Runtime's library; `ORT_DYLIB_PATH`, then `.runtime/lib/libonnxruntime.so` where not given.
    pub runtime_library: Option<PathBuf>,
    /// Sessions of one thread each; 0 stands for one a core.
    pub sessions: usize,
    /// Texts of one class that may wait or run at the same time.
    pub queue_capacity: usize,
}

/// What a request may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Texts in one Encode call.
    pub max_batch_size: usize,
    /// UTF-8 bytes in one text.
    pub max_text_bytes: usize,
    /// Texts of one stream that are read before one is answered.
    pub stream_in_flight: usize,
}

impl Default for EncoderSvcSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:50051".to_owned(),
            drain_seconds: 10.0,
            http: HttpSettings::default(),
            tls: ServerTlsSettings::default(),
            auth: AuthSettings::default(),
            encoder: EncoderSettings::default(),
            limits: LimitSettings::default(),
            log: TelemetrySettings::default(),
        }
    }
}

impl Default for EncoderSettings {
    fn default() -> Self {
        Self {
            bundle: ".runtime/bundles/minilm-512".into(),
            runtime_library: None,
            sessions: 0,
            queue_capacity: 4096,
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { max_batch_size: 256, max_text_bytes: 32 << 10, stream_in_flight: 64 }
    }
}

/// Checked configuration of encoder-svc.
#[derive(Debug, Clone)]
pub struct EncoderSvcConfig {
    /// Address of the gRPC listener.
    pub listen: SocketAddr,
    /// What calls in flight get at shutdown.
    pub drain: Duration,
    /// Address of the HTTP listener, where there is one.
    pub http_listen: Option<SocketAddr>,
    /// TLS of both listeners, where it is on.
    pub tls: Option<ServerTls>,
    /// Who may call; `None` for everybody.
    pub keys: Option<ApiKeys>,
    /// What is encoded with.
    pub encoder: EncoderConfig,
    /// What a request may ask for.
    pub limits: Limits,
    /// Logs.
    pub log: TelemetrySettings,
}

/// Checked [`EncoderSettings`].
#[derive(Debug, Clone)]
pub struct EncoderConfig {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// ONNX Runtime's library, where it is not the default one.
    pub runtime_library: Option<PathBuf>,
    /// At least 1.
    pub sessions: usize,
    /// At least 1.
    pub queue_capacity: usize,
}

/// Checked [`LimitSettings`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// 1 to the queue's capacity.
    pub max_batch_size: usize,
    /// At least 1.
    pub max_text_bytes: usize,
    /// At least 1.
    pub stream_in_flight: usize,
}

impl Limits {
    /// Bytes of the largest request that these limits allow, with room for what stands around the texts.
    #[must_use]
    pub fn max_message_bytes(self) -> usize {
        self.max_batch_size.saturating_mul(self.max_text_bytes.saturating_add(16)).saturating_add(1024)
    }
}

impl TryFrom<EncoderSvcSettings> for EncoderSvcConfig {
    type Error = StartError;

    fn try_from(settings: EncoderSvcSettings) -> Result<Self, StartError> {
        let encoder = EncoderConfig::try_from(settings.encoder)?;
        let limits = settings.limits;
        Ok(Self {
            listen: listen_address("listen", &settings.listen)?,
            drain: seconds("drain_seconds", settings.drain_seconds)?,
            http_listen: optional_listen_address("http.listen", &settings.http.listen)?,
            tls: ServerTls::new(&settings.tls)?,
            keys: ApiKeys::new(&settings.auth)?,
            limits: Limits {
                // A batch that the queue can never hold would be refused for ever.
                max_batch_size: in_range(
                    "limits.max_batch_size",
                    limits.max_batch_size,
                    1,
                    encoder.queue_capacity,
                )?,
                max_text_bytes: in_range("limits.max_text_bytes", limits.max_text_bytes, 1, 1 << 24)?,
                stream_in_flight: in_range("limits.stream_in_flight", limits.stream_in_flight, 1, 1 << 16)?,
            },
            encoder,
            log: settings.log,
        })
    }
}

impl TryFrom<EncoderSettings> for EncoderConfig {
    type Error = StartError;

    fn try_from(settings: EncoderSettings) -> Result<Self, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let sessions = if settings.sessions == 0 { cores } else { settings.sessions };
        Ok(Self {
            bundle: settings.bundle,
            runtime_library: settings.runtime_library,
            sessions: in_range("encoder.sessions", sessions, 1, 1024)?,
            queue_capacity: in_range("encoder.queue_capacity", settings.queue_capacity, 1, 1 << 20)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        let config = EncoderSvcConfig::try_from(EncoderSvcSettings::default()).unwrap();
        assert!(config.encoder.sessions >= 1);
    }

    #[test]
    fn a_batch_larger_than_the_queue_is_refused() {
        let mut settings = EncoderSvcSettings::default();
        settings.limits.max_batch_size = settings.encoder.queue_capacity + 1;
        let message = EncoderSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("limits.max_batch_size") && message.contains("4097"), "{message}");
    }
}
