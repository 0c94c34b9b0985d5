//! The settings `encoder`: where the encoders are, and how their replicas are found.

use std::path::PathBuf;
use std::time::Duration;

use encoder_client::{ClientConfig, Connection, OnlinePolicy, Policy, Source};
use serde::{Deserialize, Serialize};
use service_kit::{
    ClientTlsSettings, InvalidSetting, Secret, Target, positive_seconds, seconds, serialize_redacted, word,
};

use crate::error::StartError;

/// The encoder client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderClientSettings {
    /// Addresses, separated by commas. Every IP address of a host name is a replica, or every
    /// endpoint of a Service.
    #[serde(serialize_with = "serialize_redacted")]
    pub url: String,
    /// How replicas are found.
    #[serde(deserialize_with = "word")]
    pub discovery: DiscoverySetting,
    /// The zone of this process, whose replicas come first, with `kubernetes`; empty for none.
    pub zone: String,
    /// Seconds between lookups of the host names, with `dns`.
    pub resolve_seconds: f64,
    /// Seconds that a call to the encoder may take if the client sent no deadline.
    pub timeout_seconds: f64,
    /// Seconds without a reply after which a call is hedged to another replica; 0 turns hedging
    /// off.
    pub hedge_seconds: f64,
    /// TLS for `https://` addresses.
    pub tls: ClientTlsSettings,
    /// API key for the encoder.
    pub api_key: Option<Secret>,
    /// File with the API key, such as a mounted secret.
    pub api_key_file: Option<PathBuf>,
}

/// How the replicas of the encoder are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscoverySetting {
    /// By looking up host names.
    Dns,
    /// By watching the `EndpointSlices` of Services.
    Kubernetes,
}

impl Default for EncoderClientSettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:50051".to_owned(),
            discovery: DiscoverySetting::Dns,
            zone: String::new(),
            resolve_seconds: 5.0,
            timeout_seconds: 30.0,
            hedge_seconds: 1.0,
            tls: ClientTlsSettings::default(),
            api_key: None,
            api_key_file: None,
        }
    }
}

impl TryFrom<EncoderClientSettings> for ClientConfig {
    type Error = StartError;

    fn try_from(settings: EncoderClientSettings) -> Result<Self, StartError> {
        let api_key_file = settings.api_key_file.as_deref();
        let Connection { targets, tls, api_key } =
            Connection::new(&settings.url, &settings.tls, settings.api_key, api_key_file)?;
        let hedge_after = seconds("encoder.hedge_seconds", settings.hedge_seconds)?;
        let interval = positive_seconds("encoder.resolve_seconds", settings.resolve_seconds)?;
        let source = source(settings.discovery, &targets, interval, settings.zone)?;
        Ok(Self {
            targets,
            source,
            policy: Policy::Online(OnlinePolicy {
                timeout: positive_seconds("encoder.timeout_seconds", settings.timeout_seconds)?,
                hedge_after: (!hedge_after.is_zero()).then_some(hedge_after),
            }),
            tls,
            api_key,
        })
    }
}

/// Returns the source of the replicas of `targets`. A `zone` may be empty.
fn source(
    setting: DiscoverySetting,
    targets: &[Target],
    interval: Duration,
    zone: String,
) -> Result<Source, InvalidSetting> {
    match setting {
        DiscoverySetting::Dns => Ok(Source::Dns { interval }),
        DiscoverySetting::Kubernetes => kubernetes(targets, zone),
    }
}

#[cfg(feature = "kubernetes")]
fn kubernetes(targets: &[Target], zone: String) -> Result<Source, InvalidSetting> {
    if let Some(other) = targets.iter().find(|target| !names_a_service(target.host())) {
        let expected = "Services such as http://encoder:50051 or http://encoder.NAMESPACE.svc:50051, because \
                        encoder.discovery is \"kubernetes\"";
        let found = other.to_string();
        return Err(InvalidSetting { key: "encoder.url", expected: expected.to_owned(), found });
    }
    let zone = (!zone.is_empty()).then_some(zone);
    let cluster = encoder_client::Kubernetes::in_cluster(zone).map_err(|error| InvalidSetting {
        key: "encoder.discovery",
        expected: "\"dns\", or \"kubernetes\" in a pod with the token of a service account".to_owned(),
        found: format!("\"kubernetes\" without one: {error}"),
    })?;
    Ok(Source::Kubernetes(Box::new(cluster)))
}

/// Whether a host is `NAME`, `NAME.NAMESPACE` or `NAME.NAMESPACE.svc…`.
#[cfg(feature = "kubernetes")]
fn names_a_service(host: &str) -> bool {
    let mut parts = host.split('.');
    host.parse::<std::net::IpAddr>().is_err()
        && parts.by_ref().take(2).all(|part| !part.is_empty())
        && parts.next().is_none_or(|part| part == "svc")
}

#[cfg(not(feature = "kubernetes"))]
fn kubernetes(_: &[Target], _: String) -> Result<Source, InvalidSetting> {
    let expected =
        "\"dns\", because this program was built without the feature kubernetes, which images have";
    let found = "\"kubernetes\"".to_owned();
    Err(InvalidSetting { key: "encoder.discovery", expected: expected.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(url: &str) -> String {
        let targets = [Target::parse(url).unwrap()];
        let source = source(DiscoverySetting::Kubernetes, &targets, Duration::from_secs(5), String::new());
        source.expect_err("a test does not run in a pod").to_string()
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn a_url_must_name_a_service_to_be_watched() {
        for url in ["http://encoder:1", "http://encoder.films:1", "https://encoder.films.svc.cluster.local:1"]
        {
            let error = error_of(url);
            assert!(error.contains("encoder.discovery") && error.contains("without one"), "{url}: {error}");
        }
        for url in
            ["http://10.0.0.1:1", "http://[fd00::1]:1", "http://encoder.films.example:1", "http://a.:1"]
        {
            let error = error_of(url);
            assert!(error.contains("encoder.url") && error.contains(url), "{url}: {error}");
        }
    }

    #[cfg(not(feature = "kubernetes"))]
    #[test]
    fn a_build_without_the_feature_says_so() {
        let error = error_of("http://encoder:1");
        assert!(
            error.contains("encoder.discovery") && error.contains("without the feature kubernetes"),
            "{error}"
        );
    }
}
