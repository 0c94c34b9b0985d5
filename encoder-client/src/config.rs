//! The configuration of a client.

use std::time::Duration;

use service_kit::{ClientTls, Secret, Target};

#[cfg(feature = "kubernetes")]
use crate::cluster::Kubernetes;
use crate::policy::Policy;

/// How the replicas of a host name are found.
#[derive(Debug, Clone)]
pub enum Source {
    /// Every address of the name is a replica.
    Dns {
        /// Time between lookups.
        interval: Duration,
    },
    /// Every endpoint of the Service with that name is a replica.
    #[cfg(feature = "kubernetes")]
    Kubernetes(Box<Kubernetes>),
}

/// The addresses of the encoders, and the rules for calls to them.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The host names of the encoders.
    pub targets: Vec<Target>,
    /// How the replicas of a host name are found.
    pub source: Source,
    /// The rules of every call.
    pub policy: Policy,
    /// For `https://` targets.
    pub tls: Option<ClientTls>,
    /// Sent with every call.
    pub api_key: Option<Secret>,
}
