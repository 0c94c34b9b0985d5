//! The connection settings that every program which calls encoders has.

use std::path::{Path, PathBuf};

use service_kit::{
    ClientTls, ClientTlsSettings, InvalidSetting, Secret, Shutdown, Target, TlsError, redact_urls,
};
use tonic::transport::Channel;

/// The addresses of encoders, and what they need to accept a call.
#[derive(Debug, Clone)]
pub struct Connection {
    /// At least one address.
    pub targets: Vec<Target>,
    /// For `https://` targets.
    pub tls: Option<ClientTls>,
    /// Sent with every call.
    pub api_key: Option<Secret>,
}

/// Settings that give no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// A setting has an invalid value.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file with the API key cannot be read.
    #[error("setting encoder.api_key_file: {path}: {source}")]
    ApiKeyFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Connection {
    /// Checks the settings `encoder.url` (addresses separated by commas), `encoder.tls`, and
    /// `encoder.api_key` or `encoder.api_key_file`. Files are read here.
    pub fn new(
        urls: &str,
        tls: &ClientTlsSettings,
        api_key: Option<Secret>,
        api_key_file: Option<&Path>,
    ) -> Result<Self, ConnectionError> {
        let targets = urls.split(',').map(Target::parse).collect::<Result<Vec<_>, _>>();
        let targets = targets.map_err(|_| InvalidSetting {
            key: "encoder.url",
            expected: "addresses such as http://127.0.0.1:50051, separated by commas".to_owned(),
            found: format!("{:?}", redact_urls(urls)),
        })?;
        let is_encrypted = targets.iter().any(Target::is_encrypted);
        let tls = if is_encrypted { Some(ClientTls::new(tls)?) } else { None };
        let api_key = match (api_key, api_key_file) {
            (Some(_), Some(_)) => {
                let expected = "a key here or in encoder.api_key_file".to_owned();
                let invalid = InvalidSetting { key: "encoder.api_key", expected, found: "both".to_owned() };
                return Err(invalid.into());
            }
            (Some(key), None) => Some(checked("encoder.api_key", key)?),
            (None, Some(path)) => {
                let key = std::fs::read_to_string(path)
                    .map_err(|source| ConnectionError::ApiKeyFile { path: path.to_owned(), source })?;
                Some(checked("encoder.api_key_file", Secret::from(key.trim().to_owned()))?)
            }
            (None, None) => None,
        };
        Ok(Self { targets, tls, api_key })
    }

    /// Returns a channel to each target, which connects on the first call. Until shutdown, new
    /// connections use certificates that were renewed.
    #[must_use]
    pub fn channels(&self, shutdown: Shutdown) -> Vec<Channel> {
        if let Some(tls) = &self.tls {
            tls.watch(shutdown);
        }
        self.targets.iter().map(|target| target.channel(None, self.tls.clone())).collect()
    }
}

/// Checks that a key can be sent, without showing it.
fn checked(key: &'static str, found: Secret) -> Result<Secret, InvalidSetting> {
    let is_key =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_key(found.expose()) {
        return Ok(found);
    }
    let found = if found.expose().is_empty() { "none" } else { "other characters" };
    let expected = "a key of printable ASCII characters".to_owned();
    Err(InvalidSetting { key, expected, found: found.to_owned() })
}
