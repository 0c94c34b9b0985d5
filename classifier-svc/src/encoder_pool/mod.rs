//! The encoders, as the classifier sees them: texts in, vectors of one fingerprint out.
//!
//! [`discovery`] knows which replicas there are, [`replica`] how each of them is, [`attempts`] makes one call of as
//! many attempts as it takes, [`answer`] checks what came back. Encoding has no side effect, so any attempt may be
//! made again, as long as the caller waits and the budget for retries lasts.

mod answer;
mod attempts;
mod discovery;
mod outlier;
mod replica;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use genre_model::EncoderIdentity;
use service_kit::{ApiError, ClientTls, Metrics, Secret, Shutdown, Target};
use tonic::transport::Channel;
use tower::retry::budget::TpsBudget;

pub use self::answer::Vectors;
use self::attempts::CallMetrics;
use self::replica::Replica;

/// Between looks at replicas that do not answer: their return should be noticed soon.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How the encoders are called.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Where they are; every address that a host's name stands for is a replica.
    pub targets: Vec<Target>,
    /// How often names are looked up again.
    pub resolve_interval: Duration,
    /// What a call may take where the caller gave no deadline.
    pub timeout: Duration,
    /// A call that is not answered for so long is sent to another replica as well; `None` for never.
    pub hedge_after: Option<Duration>,
    /// For `https://` targets.
    pub tls: Option<ClientTls>,
    /// Sent with every call.
    pub api_key: Option<Secret>,
}

/// How the encoders are, for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolHealth {
    /// At least one encoder that the model was fitted on answers.
    Ready,
    /// Encoders answer, and none of them is the right one.
    Wrong(ApiError),
    /// None answers.
    Unreachable(ApiError),
}

/// All replicas. Clones share them.
#[derive(Clone)]
pub struct EncoderPool {
    inner: Arc<Inner>,
}

struct Inner {
    replicas: ArcSwap<Vec<Arc<Replica>>>,
    config: PoolConfig,
    budget: TpsBudget,
    turn: AtomicUsize,
    metrics: CallMetrics,
}

impl EncoderPool {
    /// A pool that follows its targets' addresses until shutdown.
    pub async fn discover(config: PoolConfig, metrics: &Metrics, shutdown: Shutdown) -> Self {
        if let Some(tls) = &config.tls {
            tls.watch(shutdown.clone());
        }
        let pool = Self::new(Vec::new(), config, metrics);
        discovery::refresh(&pool).await;
        tokio::spawn(discovery::follow(pool.clone(), shutdown));
        pool
    }

    /// A pool of one encoder behind `channel`.
    #[must_use]
    pub fn fixed(channel: Channel, config: PoolConfig, metrics: &Metrics) -> Self {
        let replica = Replica::new("embedded".to_owned(), channel, config.api_key.as_ref());
        Self::new(vec![Arc::new(replica)], config, metrics)
    }

    fn new(replicas: Vec<Arc<Replica>>, config: PoolConfig, metrics: &Metrics) -> Self {
        Self {
            inner: Arc::new(Inner {
                replicas: ArcSwap::from_pointee(replicas),
                config,
                budget: attempts::budget(),
                turn: AtomicUsize::new(0),
                metrics: CallMetrics::new(metrics),
            }),
        }
    }

    /// Asks every replica who it is, unless it has just answered; then says how they are for a model of `expected`.
    pub async fn probe(&self, expected: &EncoderIdentity) -> PoolHealth {
        self.look().await;
        self.health(expected)
    }

    async fn look(&self) -> Arc<Vec<Arc<Replica>>> {
        let replicas = self.inner.replicas.load_full();
        join_all(replicas.iter().map(|replica| replica.probe())).await;
        replicas
    }

    /// What is known of the replicas, without asking.
    #[must_use]
    pub fn health(&self, expected: &EncoderIdentity) -> PoolHealth {
        let replicas = self.inner.replicas.load();
        let mut other = None;
        for replica in replicas.iter().filter(|replica| replica.answers()) {
            match replica.encoder() {
                Some(encoder) if encoder.fingerprint == expected.fingerprint.as_str() => {
                    return PoolHealth::Ready;
                }
                Some(encoder) => other = Some(encoder),
                None => {}
            }
        }
        match other {
            Some(encoder) => PoolHealth::Wrong(answer::wrong_replica(expected, &encoder)),
            None => PoolHealth::Unreachable(self.unreachable()),
        }
    }

    fn unreachable(&self) -> ApiError {
        let replicas = self.inner.replicas.load();
        let message = if replicas.is_empty() {
            let targets: Vec<_> = self.inner.config.targets.iter().map(ToString::to_string).collect();
            format!("no encoder answers: no address is known for {}", targets.join(", "))
        } else {
            let failures: Vec<_> = replicas.iter().map(|replica| replica.last_failure()).collect();
            format!("no encoder answers: {}", failures.join("; "))
        };
        ApiError::Unavailable { reason: "ENCODER_UNREACHABLE", message }
    }
}

/// Keeps what is known of the replicas fresh until shutdown.
pub async fn keep_probing(pool: EncoderPool, shutdown: Shutdown) {
    let look = async {
        loop {
            tokio::time::sleep(PROBE_INTERVAL).await;
            let replicas = pool.look().await;
            let ejected = replicas.iter().filter(|replica| !replica.answers()).count();
            pool.inner.metrics.replicas(replicas.len(), ejected);
        }
    };
    shutdown.run_until_cancelled(look).await;
}
