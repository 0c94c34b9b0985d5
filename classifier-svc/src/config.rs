//! Settings as they are written, and the checked configuration that is made of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::{
    ApiKeys, AuthSettings, ClientTls, ClientTlsSettings, Drain, InvalidSetting, Secret, ServerTls,
    ServerTlsSettings, Target, TelemetrySettings, TraceSettings, in_range, listen_address,
    optional_listen_address, seconds,
};

use crate::encoder_pool::PoolConfig;
use crate::error::StartError;

/// Prefix of the environment's variables: `CLASSIFIER_SVC_LISTEN`, `CLASSIFIER_SVC_ENCODER__URL`.
pub const ENVIRONMENT_PREFIX: &str = "CLASSIFIER_SVC";

/// Bytes of one character at most.
const BYTES_IN_UTF8: usize = 4;
/// `\uXXXX\uXXXX`.
const BYTES_IN_JSON: usize = 12;

/// All settings of classifier-svc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierSvcSettings {
    /// Address of the gRPC listener.
    pub listen: String,
    /// Seconds between `NOT_SERVING` and the last call that is taken, at shutdown: as long as it takes until balancers know.
    pub endpoint_removal_seconds: f64,
    /// Seconds that calls in flight get after that.
    pub drain_seconds: f64,
    /// The HTTP listener: REST, the web page, `/livez`, `/readyz` and `/metrics`.
    pub rest: RestSettings,
    /// TLS of both listeners.
    pub tls: ServerTlsSettings,
    /// Who may call.
    pub auth: AuthSettings,
    /// The model file.
    pub model: PathBuf,
    /// Seconds between looks at the model file where no event tells of a change.
    pub model_poll_seconds: f64,
    /// Where vectors come from.
    pub encoder: EncoderClientSettings,
    /// What a request may ask for.
    pub limits: LimitSettings,
    /// Logs.
    pub log: TelemetrySettings,
    /// Traces.
    pub trace: TraceSettings,
}

/// Where vectors come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderClientSettings {
    /// Addresses, separated by commas. Every address that a host's name stands for is a replica.
    pub url: String,
    /// Seconds between lookups of the names.
    pub resolve_seconds: f64,
    /// Seconds that a call to the encoder may take where the caller gave no deadline.
    pub timeout_seconds: f64,
    /// Seconds after which a call that is not answered is sent to another replica as well; 0 for never.
    pub hedge_seconds: f64,
    /// TLS for `https://` addresses.
    pub tls: ClientTlsSettings,
    /// The key to call the encoder with.
    pub api_key: Option<Secret>,
    /// The same in a file, as orchestrators mount secrets.
    pub api_key_file: Option<PathBuf>,
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestSettings {
    /// Address; empty for no HTTP at all.
    pub listen: String,
    /// Seconds that a request may take.
    pub timeout_seconds: f64,
    /// Origins whose pages may call, such as `https://movies.example`; `*` for all; empty for none but our own.
    pub cors_origins: Vec<String>,
}

impl Default for RestSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8081".to_owned(), timeout_seconds: 30.0, cors_origins: Vec::new() }
    }
}

/// What a request may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Movies in one `BatchClassify` call.
    pub max_batch_size: usize,
    /// Unicode characters in one title.
    pub max_title_chars: usize,
    /// Unicode characters in one overview.
    pub max_overview_chars: usize,
    /// Movies of one stream that are read before one is answered.
    pub stream_in_flight: usize,
}

impl Default for ClassifierSvcSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:50052".to_owned(),
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

impl Default for EncoderClientSettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:50051".to_owned(),
            resolve_seconds: 5.0,
            timeout_seconds: 30.0,
            hedge_seconds: 1.0,
            tls: ClientTlsSettings::default(),
            api_key: None,
            api_key_file: None,
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        // Together under the encoder's own limit of 32 KiB a text, whatever the characters.
        Self { max_batch_size: 256, max_title_chars: 500, max_overview_chars: 7500, stream_in_flight: 64 }
    }
}

/// Checked configuration of classifier-svc.
#[derive(Debug, Clone)]
pub struct ClassifierSvcConfig {
    /// Address of the gRPC listener.
    pub listen: SocketAddr,
    /// What happens at shutdown.
    pub drain: Drain,
    /// The HTTP listener, where there is one.
    pub rest: Option<RestConfig>,
    /// TLS of both listeners, where it is on.
    pub tls: Option<ServerTls>,
    /// Who may call; `None` for everybody.
    pub keys: Option<ApiKeys>,
    /// The model file.
    pub model: PathBuf,
    /// Between looks at it.
    pub model_poll: Duration,
    /// Where vectors come from.
    pub encoder: PoolConfig,
    /// What a request may ask for.
    pub limits: Limits,
    /// Logs.
    pub log: TelemetrySettings,
    /// Traces.
    pub trace: TraceSettings,
}

/// Checked [`RestSettings`].
#[derive(Debug, Clone)]
pub struct RestConfig {
    /// Address.
    pub listen: SocketAddr,
    /// What a request may take.
    pub timeout: Duration,
    /// Whose pages may call.
    pub cors_origins: Vec<http::HeaderValue>,
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
}

impl Limits {
    /// Bytes of the largest request that these limits allow, with room for what stands around the texts.
    #[must_use]
    pub fn max_message_bytes(self) -> usize {
        self.max_bytes(BYTES_IN_UTF8)
    }

    /// The same for JSON, which may spell a character out.
    #[must_use]
    pub fn max_json_bytes(self) -> usize {
        self.max_bytes(BYTES_IN_JSON)
    }

    fn max_bytes(self, of_a_character: usize) -> usize {
        let characters = self.max_title_chars.saturating_add(self.max_overview_chars);
        let movie = characters.saturating_mul(of_a_character).saturating_add(64);
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
                timeout: seconds("rest.timeout_seconds", settings.rest.timeout_seconds)?,
                cors_origins: origins(&settings.rest.cors_origins)?,
            }),
            None => None,
        };
        Ok(Self {
            listen: listen_address("listen", &settings.listen)?,
            drain: Drain {
                removal: seconds("endpoint_removal_seconds", settings.endpoint_removal_seconds)?,
                finish: seconds("drain_seconds", settings.drain_seconds)?,
            },
            rest,
            tls: ServerTls::new(&settings.tls)?,
            keys: ApiKeys::new(&settings.auth)?,
            model: settings.model,
            model_poll: positive_seconds("model_poll_seconds", settings.model_poll_seconds)?,
            encoder: PoolConfig::try_from(settings.encoder)?,
            limits: Limits {
                max_batch_size: in_range("limits.max_batch_size", limits.max_batch_size, 1, 1 << 16)?,
                max_title_chars: in_range("limits.max_title_chars", limits.max_title_chars, 1, 1 << 20)?,
                max_overview_chars: in_range(
                    "limits.max_overview_chars",
                    limits.max_overview_chars,
                    1,
                    1 << 20,
                )?,
                stream_in_flight: in_range("limits.stream_in_flight", limits.stream_in_flight, 1, 1 << 16)?,
            },
            log: settings.log,
            trace: settings.trace,
        })
    }
}

impl TryFrom<EncoderClientSettings> for PoolConfig {
    type Error = StartError;

    fn try_from(settings: EncoderClientSettings) -> Result<Self, StartError> {
        let targets =
            settings.url.split(',').map(Target::parse).collect::<Result<Vec<_>, _>>().map_err(|_| {
                InvalidSetting {
                    key: "encoder.url",
                    expected: "addresses such as http://127.0.0.1:50051, separated by commas".to_owned(),
                    found: format!("{:?}", settings.url),
                }
            })?;
        let tls = if targets.iter().any(Target::is_encrypted) {
            Some(ClientTls::new(&settings.tls)?)
        } else {
            None
        };
        let api_key = match (settings.api_key, settings.api_key_file) {
            (Some(key), _) => Some(key),
            (None, Some(path)) => {
                let key = std::fs::read_to_string(&path)
                    .map_err(|source| StartError::ApiKeyFile { path, source })?;
                Some(Secret::from(key.trim().to_owned()))
            }
            (None, None) => None,
        };
        let hedge_after = seconds("encoder.hedge_seconds", settings.hedge_seconds)?;
        Ok(Self {
            targets,
            resolve_interval: positive_seconds("encoder.resolve_seconds", settings.resolve_seconds)?,
            timeout: positive_seconds("encoder.timeout_seconds", settings.timeout_seconds)?,
            hedge_after: (!hedge_after.is_zero()).then_some(hedge_after),
            tls,
            api_key,
        })
    }
}

/// A period that something is done in again and again.
fn positive_seconds(key: &'static str, found: f64) -> Result<Duration, InvalidSetting> {
    let period = seconds(key, found)?;
    if period < Duration::from_millis(1) {
        let expected = "a number of seconds, 0.001 or more".to_owned();
        return Err(InvalidSetting { key, expected, found: found.to_string() });
    }
    Ok(period)
}

fn origins(origins: &[String]) -> Result<Vec<http::HeaderValue>, InvalidSetting> {
    let origin = |text: &String| {
        let plausible = text == "*" || text.starts_with("http://") || text.starts_with("https://");
        let value = http::HeaderValue::from_str(text).ok().filter(|_| plausible && !text.ends_with('/'));
        value.ok_or_else(|| InvalidSetting {
            key: "rest.cors_origins",
            expected: "origins such as https://movies.example, or *".to_owned(),
            found: format!("{text:?}"),
        })
    };
    origins.iter().map(origin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_documents_every_key_with_its_default() {
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
    fn printed_settings_are_a_file_that_gives_them_again() {
        let settings = ClassifierSvcSettings::default();
        let again: ClassifierSvcSettings = toml::from_str(&service_kit::print_settings(&settings)).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        assert!(ClassifierSvcConfig::try_from(ClassifierSvcSettings::default()).is_ok());
    }

    #[test]
    fn several_encoders_are_separated_by_commas() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.url = "http://a:1, http://b:2".to_owned();
        assert_eq!(ClassifierSvcConfig::try_from(settings).unwrap().encoder.targets.len(), 2);
    }

    #[test]
    fn an_https_encoder_needs_authorities_to_trust() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.url = "https://encoder:1".to_owned();
        let message = ClassifierSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("tls.ca"), "{message}");
    }

    #[test]
    fn an_origin_is_no_page() {
        let mut settings = ClassifierSvcSettings::default();
        settings.rest.cors_origins = vec!["https://movies.example/".to_owned()];
        let message = ClassifierSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("rest.cors_origins"), "{message}");
    }

    #[test]
    fn what_is_no_url_is_refused_by_its_key() {
        let mut settings = ClassifierSvcSettings::default();
        settings.encoder.url = "not a url".to_owned();
        let message = ClassifierSvcConfig::try_from(settings).unwrap_err().to_string();
        assert!(message.contains("encoder.url") && message.contains("not a url"), "{message}");
    }
}
