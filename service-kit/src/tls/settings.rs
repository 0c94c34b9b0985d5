//! The files of a TLS configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// TLS of a listener: on if `certificate` and `key` are set, and mutual if `client_ca` is set too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTlsSettings {
    /// Certificate chain in PEM, the service's own certificate first.
    pub certificate: Option<PathBuf>,
    /// Private key of the certificate, in PEM.
    pub key: Option<PathBuf>,
    /// Authorities in PEM. If set, clients need a certificate from one of them.
    pub client_ca: Option<PathBuf>,
}

/// TLS of a client, for `https://` addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTlsSettings {
    /// Trusted authorities in PEM, one of which must have issued the server's certificate.
    pub ca: Option<PathBuf>,
    /// Certificate chain in PEM for servers that require a client certificate.
    pub certificate: Option<PathBuf>,
    /// Private key of the certificate, in PEM.
    pub key: Option<PathBuf>,
    /// The name in the server's certificate, if it differs from the host of the address.
    pub server_name: Option<String>,
}
