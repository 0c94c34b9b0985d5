//! Settings as they are written, and the checked configuration that is made of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::{InvalidSetting, TelemetrySettings, in_range, listen_address, seconds};
use tonic::transport::Endpoint;

use crate::StartError;

/// Prefix of the environment's variables: `CLASSIFIER_SVC_LISTEN`, `CLASSIFIER_SVC_ENCODER__URL`.
pub const ENVIRONMENT_PREFIX: &str = "CLASSIFIER_SVC";

/// How long a connection to the encoder may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A silent connection to the encoder is asked this often whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// And given up when it has not answered after this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// All settings of classifier-svc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierSvcSettings {
    /// Address of the gRPC listener.
    pub listen: String,
    /// Seconds that calls in flight get at shutdown.
    pub drain_seconds: f64,
    /// The model file.
    pub model: PathBuf,
    /// Where vectors come from.
    pub encoder: EncoderClientSettings,
    /// What a request may ask for.
    pub limits: LimitSettings,
    /// Logs.
    pub log: TelemetrySettings,
}

/// Where vectors come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderClientSettings {
    /// The encoder's address.
    pub url: String,
    /// Seconds that a call to the encoder may take where the caller gave no deadline.
    pub timeout_seconds: f64,
}

/// What a request may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Films in one `BatchClassify` call.
    pub max_batch_size: usize,
    /// UTF-8 bytes in one title.
    pub max_title_bytes: usize,
    /// UTF-8 bytes in one overview.
    pub max_overview_bytes: usize,
    /// Films of one stream that are read before one is answered.
    pub stream_in_flight: usize,
}

impl Default for ClassifierSvcSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:50052".to_owned(),
            drain_seconds: 10.0,
            model: "models/default.safetensors".into(),
            encoder: EncoderClientSettings::default(),
            limits: LimitSettings::default(),
            log: TelemetrySettings::default(),
        }
    }
}

impl Default for EncoderClientSettings {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:50051".to_owned(), timeout_seconds: 30.0 }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        // Together well under the encoder's own limit of 32 KiB a text.
        Self {
            max_batch_size: 256,
            max_title_bytes: 1 << 10,
            max_overview_bytes: 16 << 10,
            stream_in_flight: 64,
        }
    }
}

/// Checked configuration of classifier-svc.
#[derive(Debug, Clone)]
pub struct ClassifierSvcConfig {
    /// Address of the gRPC listener.
    pub listen: SocketAddr,
    /// What calls in flight get at shutdown.
    pub drain: Duration,
    /// The model file.
    pub model: PathBuf,
    /// Where vectors come from.
    pub encoder: EncoderClientConfig,
    /// What a request may ask for.
    pub limits: Limits,
    /// Logs.
    pub log: TelemetrySettings,
}

/// Checked [`EncoderClientSettings`].
#[derive(Debug, Clone)]
pub struct EncoderClientConfig {
    /// The encoder.
    pub endpoint: Endpoint,
    /// What a call may take where the caller gave no deadline.
    pub timeout: Duration,
}

/// Checked [`LimitSettings`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At least 1.
    pub max_batch_size: usize,
    /// At least 1.
    pub max_title_bytes: usize,
    /// At least 1.
    pub max_overview_bytes: usize,
    /// At least 1.
    pub stream_in_flight: usize,
}

impl Limits {
    /// Bytes of the largest request that these limits allow, with room for what stands around the texts.
    #[must_use]
    pub fn max_message_bytes(self) -> usize {
        let movie = self.max_title_bytes.saturating_add(self.max_overview_bytes).saturating_add(32);
        self.max_batch_size.saturating_mul(movie).saturating_add(1024)
    }
}

impl TryFrom<ClassifierSvcSettings> for ClassifierSvcConfig {
    type Error = StartError;

    fn try_from(settings: ClassifierSvcSettings) -> Result<Self, StartError> {
        let url = settings.encoder.url;
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| InvalidSetting {
            key: "encoder.url",
            expected: "a URL such as http://127.0.0.1:50051".to_owned(),
            found: format!("{url:?}"),
        })?;
        let limits = settings.limits;
        Ok(Self {
            listen: listen_address("listen", &settings.listen)?,
            drain: seconds("drain_seconds", settings.drain_seconds)?,
            model: settings.model,
            encoder: EncoderClientConfig {
                endpoint: endpoint
                    .connect_timeout(CONNECT_TIMEOUT)
                    .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                    .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                    .tcp_nodelay(true),
                timeout: seconds("encoder.timeout_seconds", settings.encoder.timeout_seconds)?,
            },
            limits: Limits {
                max_batch_size: in_range("limits.max_batch_size", limits.max_batch_size, 1, 1 << 16)?,
                max_title_bytes: in_range("limits.max_title_bytes", limits.max_title_bytes, 1, 1 << 20)?,
                max_overview_bytes: in_range(
                    "limits.max_overview_bytes",
                    limits.max_overview_bytes,
                    1,
                    1 << 20,
                )?,
                stream_in_flight: in_range("limits.stream_in_flight", limits.stream_in_flight, 1, 1 << 16)?,
            },
            log: settings.log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        assert!(ClassifierSvcConfig::try_from(ClassifierSvcSettings::default()).is_ok());
    }

    #[test]
    fn what_is_no_url_is_refused_by_its_key() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.url = "not a url".to_owned();
        let message = ClassifierSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("encoder.url") && message.contains("not a url"), "{message}");
    }
}
