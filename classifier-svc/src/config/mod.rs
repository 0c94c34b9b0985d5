//! Settings as users write them, and the checked configuration built from them. `encoder` has those of
//! the encoder client.

mod cors_origins;
mod encoder;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use encoder_client::ClientConfig;
use proto::LARGEST_BATCH;
use serde::{Deserialize, Serialize};
use service_kit::{
    AllowedHosts, ApiKeys, AuthSettings, ConnectionRules, DEFAULT_MAX_CONNECTIONS,
    DEFAULT_MAX_HTTP_CONNECTIONS, Drain, GrpcSettings, ServerTls, ServerTlsSettings, Settings,
    TelemetrySettings, TraceSettings, connections, in_range, listen_address, optional_listen_address, path,
    positive_seconds, seconds,
};

use crate::error::StartError;

pub use self::encoder::{DiscoverySetting, EncoderClientSettings};

/// Prefix of environment variables such as `CLASSIFIER_SVC_ENCODER__URL`.
pub const ENVIRONMENT_PREFIX: &str = "CLASSIFIER_SVC";
/// Prefix of the names of metrics.
pub const METRICS_PREFIX: &str = "movieclassifier";
/// The crates whose spans are sent to a collector.
pub const TRACED_CRATES: [&str; 3] = ["classifier_svc", "encoder_client", "encoder_svc"];

/// Longest encoding of a character in UTF-8, in bytes.
const BYTES_IN_UTF8: usize = 4;
/// Longest encoding of a character in JSON, in bytes: `\uXXXX\uXXXX`.
const BYTES_IN_JSON: usize = 12;

/// All settings of classifier-svc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierSvcSettings {
    /// Address of the gRPC listener.
    pub listen: String,
    /// The most open connections of the gRPC listener; over it, the one that is idle longest is
    /// closed.
    pub max_connections: usize,
    /// Connections of the gRPC listener.
    pub grpc: GrpcSettings,
    /// Seconds for which new calls are still accepted after shutdown begins, until load balancers
    /// notice `NOT_SERVING`.
    pub endpoint_removal_seconds: f64,
    /// Seconds after that for calls in flight to finish.
    pub drain_seconds: f64,
    /// The HTTP listener: REST, the web page, `/livez`, `/readyz` and `/metrics`.
    pub rest: RestSettings,
    /// TLS of both listeners.
    pub tls: ServerTlsSettings,
    /// API keys of clients.
    pub auth: AuthSettings,
    /// The model file.
    pub model: PathBuf,
    /// Seconds between checks of the model file, for file systems without change events.
    pub model_poll_seconds: f64,
    /// The encoder client.
    pub encoder: EncoderClientSettings,
    /// Limits of a request.
    pub limits: LimitSettings,
    /// Logs.
    pub log: TelemetrySettings,
    /// Traces.
    pub trace: TraceSettings,
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestSettings {
    /// Address of the listener; empty turns HTTP off.
    pub listen: String,
    /// The most open connections; over it, the one that is idle longest is closed.
    pub max_connections: usize,
    /// Seconds that a request may take.
    pub timeout_seconds: f64,
    /// Origins whose pages may call the API, such as `https://movies.example`; `*` for all. Pages
    /// of this service are always allowed.
    pub cors_origins: Vec<String>,
    /// Whether the listener also serves gRPC-Web, for clients in browsers.
    pub grpc_web: bool,
    /// Host names under which the listener answers, besides IP addresses; `*` for all. If empty, a
    /// listener on a loopback address without API keys answers as `localhost` only, others under any.
    pub allowed_hosts: Vec<String>,
}

impl Default for RestSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".to_owned(),
            max_connections: DEFAULT_MAX_HTTP_CONNECTIONS,
            timeout_seconds: 30.0,
            cors_origins: Vec::new(),
            grpc_web: false,
            allowed_hosts: Vec::new(),
        }
    }
}

/// Limits of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Movies in a `BatchClassify` call.
    pub max_batch_size: usize,
    /// Unicode characters in a title.
    pub max_title_chars: usize,
    /// Unicode characters in an overview.
    pub max_overview_chars: usize,
    /// Movies of a stream in flight at once.
    pub stream_in_flight: usize,
    /// Movies in flight over all calls. One caller gets at most half; 0 means 32 times
    /// `max_batch_size`.
    pub movies_in_flight: usize,
}

impl Settings for ClassifierSvcSettings {}

impl Default for ClassifierSvcSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:50052".to_owned(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            grpc: GrpcSettings::default(),
            endpoint_removal_seconds: 0.0,
            drain_seconds: 10.0,
            rest: RestSettings::default(),
            tls: ServerTlsSettings::default(),
            auth: AuthSettings::default(),
            model: "models/default.safetensors".into(),
            model_poll_seconds: 5.0,
            encoder: EncoderClientSettings::default(),
            limits: LimitSettings::default(),
            log: TelemetrySettings::default(),
            trace: TraceSettings::default(),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        // Title and overview together fit the encoder's limit of 32 KiB for a text, even in 4-byte
        // characters.
        Self {
            max_batch_size: 256,
            max_title_chars: 500,
            max_overview_chars: 7500,
            stream_in_flight: 64,
            movies_in_flight: 0,
        }
    }
}

/// Checked configuration of classifier-svc.
#[derive(Debug, Clone)]
pub struct ClassifierSvcConfig {
    /// Address of the gRPC listener.
    pub listen: SocketAddr,
    /// The most open connections of the gRPC listener, at least 1.
    pub max_connections: usize,
    /// The rules of each connection of the gRPC listener.
    pub connection_rules: ConnectionRules,
    /// The two phases of shutdown.
    pub drain: Drain,
    /// The HTTP listener; `None` if it is off.
    pub rest: Option<RestConfig>,
    /// TLS of both listeners; `None` if it is off.
    pub tls: Option<ServerTls>,
    /// API keys of clients; `None` if anyone may call.
    pub keys: Option<ApiKeys>,
    /// The model file.
    pub model: PathBuf,
    /// Time between checks of the model file.
    pub model_poll: Duration,
    /// The encoder client.
    pub encoder: ClientConfig,
    /// Limits of a request.
    pub limits: Limits,
    /// Logs.
    pub log: TelemetrySettings,
    /// Traces.
    pub trace: TraceSettings,
}

/// Checked [`RestSettings`].
#[derive(Debug, Clone)]
pub struct RestConfig {
    /// Address of the listener.
    pub listen: SocketAddr,
    /// The most open connections, at least 1.
    pub max_connections: usize,
    /// Limit for a whole request.
    pub timeout: Duration,
    /// Origins whose pages may call.
    pub cors_origins: Vec<http::HeaderValue>,
    /// Whether the listener also serves gRPC-Web.
    pub grpc_web: bool,
    /// Host names under which the listener answers.
    pub allowed_hosts: AllowedHosts,
}

/// Checked [`LimitSettings`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At least 1.
    pub max_batch_size: usize,
    /// At least 1.
    pub max_title_chars: usize,
    /// At least 1.
    pub max_overview_chars: usize,
    /// At least 1.
    pub stream_in_flight: usize,
    /// At least 1.
    pub movies_in_flight: usize,
}

impl Limits {
    /// Bytes of the largest gRPC request within these limits, with room for field tags and lengths.
    #[must_use]
    pub fn max_message_bytes(self) -> usize {
        self.max_bytes(BYTES_IN_UTF8)
    }

    /// Bytes of the largest JSON request within these limits, with every character escaped.
    #[must_use]
    pub fn max_json_bytes(self) -> usize {
        self.max_bytes(BYTES_IN_JSON)
    }

    fn max_bytes(self, bytes_per_char: usize) -> usize {
        let characters = self.max_title_chars.saturating_add(self.max_overview_chars);
        let movie = characters.saturating_mul(bytes_per_char).saturating_add(64);
        self.max_batch_size.saturating_mul(movie).saturating_add(1024)
    }
}

impl TryFrom<ClassifierSvcSettings> for ClassifierSvcConfig {
    type Error = StartError;

    fn try_from(settings: ClassifierSvcSettings) -> Result<Self, StartError> {
        let limits = settings.limits;
        let rest = match optional_listen_address("rest.listen", &settings.rest.listen)? {
            Some(listen) => Some(RestConfig {
                listen,
                max_connections: connections("rest.max_connections", settings.rest.max_connections)?,
                timeout: positive_seconds("rest.timeout_seconds", settings.rest.timeout_seconds)?,
                cors_origins: cors_origins::checked(&settings.rest.cors_origins)?,
                grpc_web: settings.rest.grpc_web,
                allowed_hosts: AllowedHosts::new(
                    "rest.allowed_hosts",
                    &settings.rest.allowed_hosts,
                    listen,
                    !settings.auth.keys.is_empty(),
                )?,
            }),
            None => None,
        };
        Ok(Self {
            listen: listen_address("listen", &settings.listen)?,
            max_connections: connections("max_connections", settings.max_connections)?,
            connection_rules: settings.grpc.to_rules()?,
            drain: Drain {
                removal: seconds("endpoint_removal_seconds", settings.endpoint_removal_seconds)?,
                finish: seconds("drain_seconds", settings.drain_seconds)?,
            },
            rest,
            tls: ServerTls::new(&settings.tls)?,
            keys: ApiKeys::new(&settings.auth)?,
            model: path("model", settings.model)?,
            model_poll: positive_seconds("model_poll_seconds", settings.model_poll_seconds)?,
            encoder: ClientConfig::try_from(settings.encoder)?,
            limits: Limits {
                max_batch_size: in_range("limits.max_batch_size", limits.max_batch_size, 1, LARGEST_BATCH)?,
                max_title_chars: in_range("limits.max_title_chars", limits.max_title_chars, 1, 1 << 20)?,
                max_overview_chars: in_range(
                    "limits.max_overview_chars",
                    limits.max_overview_chars,
                    1,
                    1 << 20,
                )?,
                stream_in_flight: in_range("limits.stream_in_flight", limits.stream_in_flight, 1, 1 << 16)?,
                movies_in_flight: match in_range(
                    "limits.movies_in_flight",
                    limits.movies_in_flight,
                    0,
                    1 << 24,
                )? {
                    0 => limits.max_batch_size.saturating_mul(32),
                    movies => movies,
                },
            },
            log: settings.log.checked()?,
            trace: settings.trace.checked()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_documents_every_setting_with_its_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/classifier-svc.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let loaded: ClassifierSvcSettings = service_kit::load_settings(
            "NO_SUCH_PREFIX",
            Some(path.as_ref()),
            service_kit::Overrides::default(),
        )
        .unwrap();
        assert_eq!(loaded, ClassifierSvcSettings::default());
        let mut known = service_kit::keys(&serde_json::to_value(ClassifierSvcSettings::default()).unwrap());
        known.sort();
        assert_eq!(service_kit::documented_keys(&text).unwrap(), known);
    }

    #[test]
    fn every_key_can_be_set_by_its_variable() {
        let unchangeable = service_kit::unchangeable_keys::<ClassifierSvcSettings>(ENVIRONMENT_PREFIX);
        assert!(unchangeable.is_empty(), "{unchangeable:?}");
    }

    #[test]
    fn printed_settings_read_back_unchanged() {
        let settings = ClassifierSvcSettings::default();
        let again: ClassifierSvcSettings = toml::from_str(&service_kit::print_settings(&settings)).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(ClassifierSvcConfig::try_from(ClassifierSvcSettings::default()).is_ok());
    }

    #[test]
    fn splits_encoder_addresses_at_commas() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.url = "http://a:1, http://b:2".to_owned();
        assert_eq!(ClassifierSvcConfig::try_from(settings).unwrap().encoder.targets.len(), 2);
    }

    #[test]
    fn an_https_encoder_requires_a_ca() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.url = "https://encoder:1".to_owned();
        let message = ClassifierSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("tls.ca"), "{message}");
    }

    /// Every number, with values that nothing could work with.
    #[test]
    fn a_number_that_cannot_work_is_rejected_by_its_key() {
        let sets = service_kit::load_each::<ClassifierSvcSettings>(
            ENVIRONMENT_PREFIX,
            service_kit::impossible_numbers,
        );
        assert!(sets.len() > 20);
        for set in sets {
            let message = match set.loaded {
                Ok(settings) => ClassifierSvcConfig::try_from(settings).unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            assert!(message.contains(&set.key), "{} = {}: {message}", set.key, set.value);
        }
    }

    #[test]
    fn a_key_that_cannot_be_sent_is_rejected_without_showing_it() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.api_key = Some("hunter2\n".to_owned().into());
        let message = ClassifierSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("encoder.api_key") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn never_shows_the_password_of_a_url() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.url = "http://user:hunter2@encoder:1".to_owned();
        let printed = service_kit::print_settings(&settings);
        assert!(printed.contains("encoder:1") && !printed.contains("hunter2"), "{printed}");
        let message = ClassifierSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("encoder:1") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn rejects_an_invalid_url_by_its_key() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.url = "not a url".to_owned();
        let message = ClassifierSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("encoder.url") && message.contains("not a url"), "{message}");
    }
}
