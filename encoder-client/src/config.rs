//! The configuration of a client.

use std::time::Duration;

use service_kit::{ClientTls, Secret, Target};

use crate::policy::Policy;

/// The addresses of the encoders, and the rules for calls to them.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The host names of the encoders. Every address of a name is a replica.
    pub targets: Vec<Target>,
    /// Time between lookups of the names.
    pub resolve_interval: Duration,
    /// The rules of every call.
    pub policy: Policy,
    /// For `https://` targets.
    pub tls: Option<ClientTls>,
    /// Sent with every call.
    pub api_key: Option<Secret>,
}
