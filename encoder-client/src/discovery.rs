//! Finds the replicas: looks up the host names of all targets at regular intervals; each address is
//! a replica.
//!
//! `tower::discover` and `tonic::transport::Channel::balance_channel` feed their own balancer,
//! which would hide the replicas from retries and hedges.

use std::sync::Arc;
use std::time::Duration;

use service_kit::Shutdown;

use crate::attempts::Attempts;
use crate::config::ClientConfig;
use crate::replica::Replica;
use crate::replicas::Replicas;

/// Time between lookups while no address is known.
const WHEN_EMPTY: Duration = Duration::from_millis(500);

/// Looks up the names at regular intervals until shutdown.
pub(crate) async fn follow(attempts: Arc<Attempts>, config: ClientConfig, shutdown: Shutdown) {
    let follow = async {
        loop {
            let is_empty = attempts.replicas.all().is_empty();
            let interval = config.resolve_interval;
            tokio::time::sleep(if is_empty { WHEN_EMPTY.min(interval) } else { interval }).await;
            refresh(&attempts.replicas, &config).await;
        }
    };
    shutdown.run_until_cancelled(follow).await;
}

/// Looks up the names once. Replicas that are still listed keep their state. If the lookup of a
/// name fails, its replicas stay: a failing name server says nothing about encoders.
pub(crate) async fn refresh(replicas: &Replicas, config: &ClientConfig) {
    let old = replicas.all();
    let mut new: Vec<Arc<Replica>> = Vec::new();
    for target in &config.targets {
        let prefix = format!("{target} at ");
        let known = |name: &str| old.iter().find(|replica| replica.name() == name).cloned();
        match target.resolve().await {
            Ok(addresses) => new.extend(addresses.into_iter().map(|address| {
                let name = format!("{prefix}{address}");
                known(&name).unwrap_or_else(|| {
                    tracing::info!(replica = name, "encoder found");
                    let channel = target.channel(Some(address), config.tls.clone());
                    Arc::new(Replica::new(name, channel, config.api_key.as_ref()))
                })
            })),
            Err(error) => {
                tracing::warn!(%target, %error, "the encoder's name cannot be looked up");
                new.extend(old.iter().filter(|replica| replica.name().starts_with(&prefix)).cloned());
            }
        }
    }
    for gone in old.iter().filter(|old| !new.iter().any(|new| new.name() == old.name())) {
        tracing::info!(replica = gone.name(), "encoder gone");
    }
    replicas.replace(new);
}
