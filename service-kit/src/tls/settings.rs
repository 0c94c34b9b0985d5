//! Which files TLS is made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// TLS of a listener: on where `certificate` and `key` are given, mutual where `client_ca` is too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTlsSettings {
    /// Certificate chain, PEM, the service's own first.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// Authorities, PEM: only clients with a certificate of one of them are let in.
    pub client_ca: Option<PathBuf>,
}

/// TLS of a client, for `https://` addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTlsSettings {
    /// Authorities, PEM, that the server's certificate must come from.
    pub ca: Option<PathBuf>,
    /// Certificate chain to show to servers that ask for one, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The name in the server's certificate, where it is not the host of the address.
    pub server_name: Option<String>,
}
