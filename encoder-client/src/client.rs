//! The client: calls to encode, and the health of the replicas.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use genre_model::EncoderIdentity;
use proto::encoder::v1::EncodeRequest;
use service_kit::{CallerId, Deadline, Metrics, Shutdown};
use tonic::transport::Channel;

use crate::attempts::{Attempts, Call};
use crate::config::{ClientConfig, Source};
use crate::discovery::dns;
#[cfg(feature = "kubernetes")]
use crate::discovery::kubernetes;
use crate::error::EncoderError;
use crate::policy::Policy;
use crate::replica::{Health, Replica};
use crate::replicas::Replicas;
use crate::verify::{self, Vectors};

/// Time between rounds of probes. A round skips replicas that answered a moment ago.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// A client of all replicas of an encoder. Clones share them.
#[derive(Clone)]
pub struct EncoderClient {
    attempts: Arc<Attempts>,
}

impl fmt::Debug for EncoderClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncoderClient")
            .field("names", &self.attempts.replicas.names())
            .finish_non_exhaustive()
    }
}

impl EncoderClient {
    /// Returns a client that follows the replicas of its targets until shutdown.
    pub async fn discover(config: ClientConfig, metrics: &Metrics, shutdown: Shutdown) -> Self {
        if let Some(tls) = &config.tls {
            tls.watch(shutdown.clone());
        }
        let names: Vec<_> = config.targets.iter().map(ToString::to_string).collect();
        let client = Self::new(Replicas::new(Vec::new(), names.join(", ")), config.policy, metrics);
        let attempts = client.attempts.clone();
        match &config.source {
            Source::Dns { interval } => {
                let mut discovery = dns::Discovery::new(attempts, &config, *interval);
                discovery.refresh().await;
                tokio::spawn(discovery.follow(shutdown));
            }
            #[cfg(feature = "kubernetes")]
            Source::Kubernetes(cluster) => {
                let mut discovery = kubernetes::Discovery::new(attempts, &config, cluster);
                discovery.begin().await;
                tokio::spawn(discovery.follow(shutdown));
            }
        }
        client
    }

    /// A client of the one encoder behind `channel`.
    #[must_use]
    pub fn fixed(channel: Channel, config: &ClientConfig, metrics: &Metrics) -> Self {
        let replica = Replica::new("embedded".to_owned(), channel, config.api_key.as_ref(), Health::Serving);
        Self::new(Replicas::new(vec![Arc::new(replica)], String::new()), config.policy, metrics)
    }

    pub(crate) fn new(replicas: Replicas, policy: Policy, metrics: &Metrics) -> Self {
        Self { attempts: Arc::new(Attempts::new(replicas, policy, metrics)) }
    }

    /// Encodes `texts` to vectors of `dimension` floats, with an encoder of the expected
    /// fingerprint. `caller` is the one on whose behalf they are encoded; the encoder shares its
    /// work between callers.
    pub async fn encode(
        &self,
        texts: Vec<String>,
        dimension: usize,
        expected: &EncoderIdentity,
        caller: Option<CallerId>,
        deadline: Deadline,
    ) -> Result<Vectors, EncoderError> {
        let deadline = self.attempts.rules.deadline(deadline);
        let count = texts.len();
        let request = EncodeRequest { texts, priority: self.attempts.rules.priority().into() };
        let attempt = |replica: Arc<Replica>| {
            let request = request.clone();
            async move {
                let response = replica.encode(request, caller, deadline).await?;
                verify::vectors(response, count, dimension, expected)
            }
        };
        let attempts = self.attempts.make(Call { expected: Some(expected), texts: count, deadline }, attempt);
        deadline.bound(attempts).await.map_err(|_| EncoderError::DeadlineExceeded)?
    }

    /// Probes every replica that has not answered a moment ago, then returns
    /// [`health`](Self::health).
    pub async fn probe(&self, expected: &EncoderIdentity, dimension: usize) -> Result<(), EncoderError> {
        self.probe_all().await;
        self.health(expected, dimension)
    }

    async fn probe_all(&self) -> Arc<Vec<Arc<Replica>>> {
        let replicas = self.attempts.replicas.all();
        join_all(replicas.iter().map(|replica| replica.probe())).await;
        replicas
    }

    /// Checks, from the last probes, that a replica of the expected encoder answers, and that its
    /// vectors have `dimension` floats. Fails with [`EncoderError::WrongEncoder`] if only other
    /// encoders answer, with [`EncoderError::WrongDimension`] if the dimension differs, and with
    /// [`EncoderError::Unreachable`] if none answers.
    pub fn health(&self, expected: &EncoderIdentity, dimension: usize) -> Result<(), EncoderError> {
        let replicas = self.attempts.replicas.all();
        let answering: Vec<_> = replicas.iter().filter(|replica| replica.answers()).collect();
        if let Some(replica) = answering.iter().find(|replica| replica.matches(expected)) {
            return replica.check_dimension(expected, dimension);
        }
        let wrong = answering.iter().rev().find_map(|replica| replica.mismatch(expected));
        Err(wrong.unwrap_or_else(|| self.attempts.replicas.unreachable()))
    }

    /// Probes the replicas at regular intervals until shutdown.
    pub async fn keep_probing(self, shutdown: Shutdown) {
        let probe = async {
            loop {
                tokio::time::sleep(PROBE_INTERVAL).await;
                let replicas = self.probe_all().await;
                let ejected = replicas.iter().filter(|replica| !replica.is_available()).count();
                self.attempts.metrics.set_replicas(replicas.len(), ejected);
            }
        };
        shutdown.run_until_cancelled(probe).await;
    }
}
