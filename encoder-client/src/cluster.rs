//! Access to the API server of a Kubernetes cluster.

use std::time::Duration;

/// The timeout for opening a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Access to the API server of a cluster, and the zone of this process in it.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    pub(crate) access: kube::Config,
    pub(crate) zone: Option<String>,
}

/// Why this process has no access to an API server.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotInCluster(#[from] kube::config::InClusterError);

impl Kubernetes {
    /// Returns the access that this pod's service account has. Replicas whose hints name `zone` are
    /// preferred.
    pub fn in_cluster(zone: Option<String>) -> Result<Self, NotInCluster> {
        Ok(Self::new(kube::Config::incluster()?, zone))
    }

    /// Returns the access that `config` describes.
    #[must_use]
    pub fn new(mut config: kube::Config, zone: Option<String>) -> Self {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        Self { access: config, zone }
    }
}
