//! The client: its replicas, how they are, and calls to encode.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use genre_model::EncoderIdentity;
use proto::encoder::v1::EncodeRequest;
use service_kit::{ClientTls, Deadline, Metrics, Secret, Shutdown, Target};
use tonic::transport::Channel;

use crate::attempts::Call;
use crate::discovery;
use crate::error::EncoderError;
use crate::metrics::CallMetrics;
use crate::policy::{Policy, Rules};
use crate::replica::Replica;
use crate::verify::{self, Vectors};

/// Time between rounds of probes. Replicas that answered a moment ago are left out.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Where the encoders are and how they are called.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The encoders' names; every address of a name is a replica.
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

/// A client of all replicas of an encoder. Clones share them.
#[derive(Clone)]
pub struct EncoderClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) replicas: ArcSwap<Vec<Arc<Replica>>>,
    pub(crate) rules: Rules,
    pub(crate) turn: AtomicUsize,
    pub(crate) metrics: CallMetrics,
    /// The names that the replicas come from, for error messages.
    names: String,
}

impl fmt::Debug for EncoderClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncoderClient").field("names", &self.inner.names).finish_non_exhaustive()
    }
}

impl EncoderClient {
    /// A client that follows the addresses of its targets until shutdown.
    pub async fn discover(config: ClientConfig, metrics: &Metrics, shutdown: Shutdown) -> Self {
        if let Some(tls) = &config.tls {
            tls.watch(shutdown.clone());
        }
        let names: Vec<_> = config.targets.iter().map(ToString::to_string).collect();
        let client = Self::new(Vec::new(), config.policy, metrics, names.join(", "));
        discovery::refresh(&client, &config).await;
        tokio::spawn(discovery::follow(client.clone(), config, shutdown));
        client
    }

    /// A client of the one encoder behind `channel`.
    #[must_use]
    pub fn fixed(channel: Channel, config: &ClientConfig, metrics: &Metrics) -> Self {
        let replica = Replica::new("embedded".to_owned(), channel, config.api_key.as_ref());
        Self::of(vec![Arc::new(replica)], config.policy, metrics)
    }

    /// A client of these replicas.
    pub(crate) fn of(replicas: Vec<Arc<Replica>>, policy: Policy, metrics: &Metrics) -> Self {
        Self::new(replicas, policy, metrics, String::new())
    }

    fn new(replicas: Vec<Arc<Replica>>, policy: Policy, metrics: &Metrics, names: String) -> Self {
        let (replicas, metrics) = (ArcSwap::from_pointee(replicas), CallMetrics::new(metrics));
        let inner = Inner { replicas, rules: policy.into(), turn: AtomicUsize::new(0), metrics, names };
        Self { inner: Arc::new(inner) }
    }

    /// Encodes `texts` to vectors of `dimension` floats by an encoder of the expected fingerprint.
    pub async fn encode(
        &self,
        texts: Vec<String>,
        dimension: usize,
        expected: &EncoderIdentity,
        deadline: Deadline,
    ) -> Result<Vectors, EncoderError> {
        let deadline = self.inner.rules.deadline(deadline);
        let count = texts.len();
        let request = EncodeRequest { texts, priority: self.inner.rules.priority().into() };
        let attempt = |replica: Arc<Replica>| {
            let request = request.clone();
            async move {
                let response = replica.encode(request, deadline).await?;
                verify::vectors(response, count, dimension, expected)
            }
        };
        let attempts = self.attempts(Call { expected: Some(expected), texts: count, deadline }, attempt);
        deadline.bound(attempts).await.map_err(|_| EncoderError::DeadlineExceeded)?
    }

    /// Probes every replica that has not answered a moment ago, then reports as
    /// [`health`](Self::health) does.
    pub async fn probe(&self, expected: &EncoderIdentity) -> Result<(), EncoderError> {
        self.probe_all().await;
        self.health(expected)
    }

    async fn probe_all(&self) -> Arc<Vec<Arc<Replica>>> {
        let replicas = self.inner.replicas.load_full();
        join_all(replicas.iter().map(|replica| replica.probe())).await;
        replicas
    }

    /// Whether a replica of the expected encoder answers, from the last probes:
    /// [`EncoderError::WrongEncoder`] if only other encoders answer, [`EncoderError::Unreachable`]
    /// if none does.
    pub fn health(&self, expected: &EncoderIdentity) -> Result<(), EncoderError> {
        let replicas = self.inner.replicas.load();
        let answering: Vec<_> = replicas.iter().filter(|replica| replica.answers()).collect();
        if answering.iter().any(|replica| replica.matches(expected)) {
            return Ok(());
        }
        let wrong = answering.iter().rev().find_map(|replica| replica.mismatch(expected));
        Err(wrong.unwrap_or_else(|| self.unreachable()))
    }

    pub(crate) fn unreachable(&self) -> EncoderError {
        let replicas = self.inner.replicas.load();
        if replicas.is_empty() {
            return EncoderError::Unreachable(format!("no address is known for {}", self.inner.names));
        }
        let failures: Vec<_> = replicas.iter().map(|replica| replica.last_failure()).collect();
        EncoderError::Unreachable(failures.join("; "))
    }

    /// Probes the replicas again and again until shutdown.
    pub async fn keep_probing(self, shutdown: Shutdown) {
        let probe = async {
            loop {
                tokio::time::sleep(PROBE_INTERVAL).await;
                let replicas = self.probe_all().await;
                let ejected = replicas.iter().filter(|replica| !replica.answers()).count();
                self.inner.metrics.set_replicas(replicas.len(), ejected);
            }
        };
        shutdown.run_until_cancelled(probe).await;
    }
}
