//! The encoder of a command: its arguments, and the variables `TRAINER_ENCODER__…`.
#![allow(clippy::doc_markdown, reason = "these comments are the help that is printed")]

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use encoder_client::{BulkEncoder, BulkPolicy, Connection, EncoderError};
use serde::{Deserialize, Serialize};
use service_kit::{ClientTlsArgs, ClientTlsSettings, Overrides, Secret, Settings, Shutdown, load_settings};
use tonic::Code;
use trainer::encode::embedded;

/// Prefix of variables such as `TRAINER_ENCODER__TLS__CA`. The settings are named as those of
/// `[encoder]` in classifier-svc.
const ENVIRONMENT_PREFIX: &str = "TRAINER_ENCODER_";

#[derive(Debug, Args)]
pub(crate) struct EncoderArgs {
    /// Address of the encoder service. For several replicas, repeat the option or separate
    /// addresses by commas [default: the variable TRAINER_ENCODER__URL, or http://127.0.0.1:50051]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    encoder: Vec<String>,
    /// Run the encoder in this process instead of calling a service
    #[arg(long, conflicts_with = "encoder")]
    embedded: bool,
    /// File with the API key for the encoder. Without it, the variables TRAINER_ENCODER__API_KEY and
    /// TRAINER_ENCODER__API_KEY_FILE are read
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    #[command(flatten)]
    tls: ClientTlsArgs,
}

/// The settings of the variables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EncoderSettings {
    url: String,
    tls: ClientTlsSettings,
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
}

impl Default for EncoderSettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:50051".to_owned(),
            tls: ClientTlsSettings::default(),
            api_key: None,
            api_key_file: None,
        }
    }
}

impl Settings for EncoderSettings {}

impl EncoderArgs {
    /// Connects to the encoder, or starts the embedded one.
    pub(crate) async fn connect(&self, policy: BulkPolicy) -> Result<BulkEncoder> {
        if self.embedded {
            let client = BulkEncoder::connect(vec![embedded::channel().await?], None, policy).await;
            return connected(client, "embedded encoder");
        }
        let connection = self.connection()?;
        let targets: Vec<_> = connection.targets.iter().map(ToString::to_string).collect();
        let channels = connection.channels(Shutdown::new());
        let client = BulkEncoder::connect(channels, connection.api_key.as_ref(), policy).await;
        connected(client, &targets.join(", "))
    }

    /// The connection that the variables describe, changed by the arguments.
    fn connection(&self) -> Result<Connection> {
        let given: EncoderSettings = load_settings(ENVIRONMENT_PREFIX, None, Overrides::default())?;
        let url = if self.encoder.is_empty() { given.url } else { self.encoder.join(",") };
        let api_key_file = self.api_key_file.as_ref().or(given.api_key_file.as_ref());
        let tls = self.tls.over(given.tls);
        Ok(Connection::new(&url, &tls, given.api_key, api_key_file.map(PathBuf::as_path))?)
    }
}

fn connected(client: Result<BulkEncoder, EncoderError>, what: &str) -> Result<BulkEncoder> {
    let client = client.map_err(|error| {
        let is_keyless = match &error {
            EncoderError::Failed(status) | EncoderError::Unavailable { status, .. } => {
                status.code() == Code::Unauthenticated
            }
            _ => false,
        };
        let remedy =
            if is_keyless { "; give it with --api-key-file or TRAINER_ENCODER__API_KEY" } else { "" };
        anyhow!("{what}: {error}{remedy}")
    })?;
    tracing::info!("encoder {} at {what}", client.description().identity);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_named_as_the_setting_of_the_classifier() {
        let unchangeable = service_kit::unchangeable_keys::<EncoderSettings>(ENVIRONMENT_PREFIX);
        assert!(unchangeable.is_empty(), "{unchangeable:?}");
    }
}
