//! Which replicas there are: every address of every target's name, looked up again and again.

use std::sync::Arc;
use std::time::Duration;

use service_kit::Shutdown;

use super::EncoderPool;
use super::replica::Replica;

/// Between lookups while no address is known at all.
const WHEN_EMPTY: Duration = Duration::from_millis(500);

/// Looks names up until shutdown.
pub(super) async fn follow(pool: EncoderPool, shutdown: Shutdown) {
    let look = async {
        loop {
            let empty = pool.inner.replicas.load().is_empty();
            let interval = pool.inner.config.resolve_interval;
            tokio::time::sleep(if empty { WHEN_EMPTY.min(interval) } else { interval }).await;
            refresh(&pool).await;
        }
    };
    shutdown.run_until_cancelled(look).await;
}

/// One look. Replicas that are still there are kept, with all that is known of them; a name that cannot be looked up
/// now keeps its replicas, since a failing name server says nothing about encoders.
pub(super) async fn refresh(pool: &EncoderPool) {
    let old = pool.inner.replicas.load_full();
    let mut new: Vec<Arc<Replica>> = Vec::new();
    for target in &pool.inner.config.targets {
        let prefix = format!("{target} at ");
        let known = |name: &str| old.iter().find(|replica| replica.name() == name).cloned();
        match target.resolve().await {
            Ok(addresses) => new.extend(addresses.into_iter().map(|address| {
                let name = format!("{prefix}{address}");
                known(&name).unwrap_or_else(|| {
                    tracing::info!(replica = name, "encoder found");
                    let channel = target.channel(Some(address), pool.inner.config.tls.clone());
                    Arc::new(Replica::new(name, channel, pool.inner.config.api_key.as_ref()))
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
    pool.inner.replicas.store(Arc::new(new));
}
